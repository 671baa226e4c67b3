"""`triage hooks`: what is compared, and what it does to a played organisation."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from tests.sandbox.conftest import TOKEN, organisation, played, shop
from tests.test_cli import triage
from triage import azdo, config, hooks
from triage.azdo import administration
from triage.config import Hook
from triage.errors import AccessRefused, UsageError
from triage.sandbox import hooks as delivering
from triage.sandbox import security
from triage.sandbox.organisation import Fault
from triage.sandbox.tokens import Token

if TYPE_CHECKING:
    from triage.azdo.administration import Project, Subscription
    from triage.sandbox.organisation import Organisation
    from triage.sandbox.server import Played

__all__ = ["organisation", "played", "shop"]

URL = "https://triage.contoso.example/hooks/azure-devops"
PASSWORD = "a long and random password 1234567890"
SAS = "Endpoint=sb://contoso.servicebus.example/;SharedAccessKeyName=send;SharedAccessKey=c2VjcmV0"


@pytest.fixture
def door(played: Played) -> azdo.Door:
    return azdo.connect(played.url, TOKEN)


@pytest.fixture
def target() -> hooks.Target:
    return hooks.web_hook(Hook(password=SecretStr(PASSWORD)), "https://triage.contoso.example/")


@pytest.fixture
def projects(door: azdo.Door) -> list[Project]:
    return administration.projects(door)


@pytest.fixture
def wanted(projects: list[Project], target: hooks.Target) -> list[hooks.Wanted]:
    return hooks.wanted(projects, target)


def kinds(steps: list[hooks.Step]) -> list[str]:
    return [step.kind for step in steps]


def first(organisation: Organisation) -> dict[str, Any]:
    return next(iter(organisation.subscriptions.values()))


def test_every_project_is_found_however_many_there_are(door: azdo.Door, organisation: Organisation) -> None:
    for number in range(230):
        organisation.add_project(f"Project {number:03}")
    assert len(administration.projects(door)) == 232


def test_each_project_gets_its_two_subscriptions_once(
    door: azdo.Door, organisation: Organisation, wanted: list[hooks.Wanted]
) -> None:
    assert kinds(hooks.install(door, wanted)) == ["create"] * 4
    assert kinds(hooks.install(door, wanted)) == ["keep"] * 4
    made = list(organisation.subscriptions.values())
    assert {each["publisherInputs"]["buildStatus"] for each in made} == {"Failed", "PartiallySucceeded"}
    assert {each["publisherInputs"]["projectId"] for each in made} == set(organisation.projects)
    for each in made:
        assert each["resourceVersion"] == "2.0"
        assert each["consumerInputs"] == {
            "url": URL,
            "basicAuthUsername": "triage",
            "basicAuthPassword": PASSWORD,
            "resourceDetailsToSend": "",
            "messagesToSend": "none",
            "detailedMessagesToSend": "none",
        }


def test_what_is_installed_is_delivered_to(
    door: azdo.Door, organisation: Organisation, wanted: list[hooks.Wanted], projects: list[Project]
) -> None:
    hooks.install(door, wanted)
    event = {
        "id": "33433986-0000-4000-8000-000000000000",
        "eventType": "build.complete",
        "resource": {"id": 42, "result": "partiallySucceeded"},
        "resourceContainers": {"project": {"id": projects[0].id}},
    }
    for subscription in organisation.subscriptions.values():
        subscription["consumerInputs"]["url"] = "http://127.0.0.1:1/"
    assert delivering.deliver(organisation, event, speed=1e9) == [0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"resourceVersion": "1.0"}, "resourceVersion is different"),
        ({"basicAuthUsername": "else"}, "basicAuthUsername is different"),
        ({"resourceDetailsToSend": "minimal", "messagesToSend": ""}, "messagesToSend and resource"),
        ({"httpHeaders": "X-Old:1"}, "httpHeaders is different"),
    ],
)
def test_what_differs_is_updated_with_its_secret(
    door: azdo.Door,
    organisation: Organisation,
    wanted: list[hooks.Wanted],
    change: dict[str, str],
    reason: str,
) -> None:
    hooks.install(door, wanted)
    changed = first(organisation)
    changed |= {key: value for key, value in change.items() if key in changed}
    changed["consumerInputs"] |= {key: value for key, value in change.items() if key not in changed}
    changed["consumerInputs"]["basicAuthPassword"] = "an old one"
    steps = hooks.install(door, wanted)
    (step,) = (step for step in steps if step.kind != "keep")
    assert (step.kind, reason in step.reason) == ("update", True)
    now = organisation.subscriptions[changed["id"]]
    assert now["consumerInputs"]["basicAuthPassword"] == PASSWORD
    assert kinds(hooks.install(door, wanted)) == ["keep"] * 4


@pytest.mark.parametrize("state", ["onProbation", "disabledBySystem", "disabledByInactiveIdentity"])
def test_what_azure_devops_switched_off_is_told_and_repaired(
    door: azdo.Door, organisation: Organisation, wanted: list[hooks.Wanted], state: str
) -> None:
    hooks.install(door, wanted)
    broken = first(organisation)
    broken["status"] = state
    (told,) = (each for each in hooks.status(door, wanted) if not each.ok)
    assert (told.state, told.subscription_id, told.fix) == (state, broken["id"], "`triage hooks repair`")
    assert kinds(hooks.install(door, wanted)).count("leave") == 1
    assert broken["id"] in organisation.subscriptions
    assert kinds(hooks.install(door, wanted, repair=True)).count("recreate") == 1
    assert broken["id"] not in organisation.subscriptions
    assert len(organisation.subscriptions) == 4
    assert all(each.ok for each in hooks.status(door, wanted))


def test_what_a_person_switched_off_stays_off(
    door: azdo.Door, organisation: Organisation, wanted: list[hooks.Wanted]
) -> None:
    hooks.install(door, wanted)
    first(organisation)["status"] = "disabledByUser"
    assert kinds(hooks.install(door, wanted, repair=True)).count("leave") == 1
    (told,) = (each for each in hooks.status(door, wanted) if not each.ok)
    assert told.problem == "a person switched it off"


def test_one_that_is_there_twice_is_removed_once(
    door: azdo.Door, organisation: Organisation, wanted: list[hooks.Wanted]
) -> None:
    hooks.install(door, wanted)
    double = {**first(organisation), "id": "00000000-0000-4000-8000-000000000000"}
    organisation.subscriptions[double["id"]] = double
    assert kinds(hooks.install(door, wanted)).count("leave") == 1
    assert kinds(hooks.install(door, wanted, repair=True)).count("remove") == 1
    assert len(organisation.subscriptions) == 4


def test_one_for_the_whole_organisation_covers_its_projects(
    door: azdo.Door, organisation: Organisation, wanted: list[hooks.Wanted]
) -> None:
    hooks.install(door, wanted[:2])
    for each in organisation.subscriptions.values():
        each["publisherInputs"]["projectId"] = ""
    assert kinds(hooks.install(door, wanted, repair=True)) == ["keep"] * 4


def test_other_peoples_subscriptions_are_left_alone(
    door: azdo.Door, organisation: Organisation, wanted: list[hooks.Wanted]
) -> None:
    number = organisation.subscribe(
        "https://another.example/hooks", event_type="build.complete", username="u", password="p"
    )
    before = json.dumps(organisation.subscriptions[number])
    hooks.install(door, wanted, repair=True)
    assert json.dumps(organisation.subscriptions[number]) == before
    assert len(organisation.subscriptions) == 5


def test_a_password_that_differs_shows_by_the_events_it_loses(
    door: azdo.Door, organisation: Organisation, wanted: list[hooks.Wanted]
) -> None:
    hooks.install(door, wanted)
    wrong = first(organisation)
    wrong["consumerInputs"]["basicAuthPassword"] = "an old one"
    organisation.notifications[wrong["id"]] = [
        {
            "id": 1,
            "status": "completed",
            "result": "failed",
            "createdDate": "2026-11-21T08:00:00.0000000Z",
            "details": {"errorMessage": "Unauthorized\x1b(401)"},
        }
    ]
    (told,) = (each for each in hooks.status(door, wanted) if not each.ok)
    assert "the password is another" in told.problem
    assert told.failures == ("2026-11-21T08:00:00+00:00: Unauthorized (401)",)
    assert kinds(hooks.install(door, wanted, repair=True)).count("update") == 1
    assert organisation.subscriptions[wrong["id"]]["consumerInputs"]["basicAuthPassword"] == PASSWORD


def test_a_service_bus_queue_is_found_again_by_its_name(
    door: azdo.Door, organisation: Organisation, projects: list[Project]
) -> None:
    bus = hooks.wanted(projects, hooks.service_bus("triage", SAS), hooks.BUILDS + hooks.RELEASES)
    assert kinds(hooks.install(door, bus)) == ["create"] * 6
    assert kinds(hooks.install(door, bus)) == ["keep"] * 6
    made = first(organisation)
    assert (made["consumerId"], made["consumerActionId"]) == ("azureServiceBus", "serviceBusQueueSend")
    assert made["consumerInputs"]["connectionString"] == SAS
    assert SAS not in repr(bus)
    (shown, *_) = administration.subscriptions(door, "azureServiceBus")
    assert shown.consumer_inputs["connectionString"] == hooks.MASK


def test_without_the_right_it_says_so(
    organisation: Organisation, played: Played, wanted: list[hooks.Wanted]
) -> None:
    organisation.tokens["weak"] = Token(rights=security.ENOUGH - {"ServiceHooks/EditSubscriptions"})
    with pytest.raises(AccessRefused, match="needs Edit Subscriptions permissions"):
        hooks.install(azdo.connect(played.url, "weak"), wanted)


def test_hooks_belong_to_the_identity_that_reads(
    organisation: Organisation, played: Played, wanted: list[hooks.Wanted]
) -> None:
    organisation.tokens |= {
        "read": Token(caller={**organisation.caller, "displayName": "reader"}),
        "write": Token(rights=frozenset()),
    }
    section = config.AzureDevOps(
        url=played.url, token=SecretStr("read"), writer=config.Credential(token=SecretStr("write"))
    )
    hooks.install(azdo.account(section).door(), wanted)
    assert first(organisation)["createdBy"]["displayName"] == "reader"


def test_the_same_address_in_another_spelling_is_the_same(
    door: azdo.Door, wanted: list[hooks.Wanted], organisation: Organisation
) -> None:
    hooks.install(door, wanted)
    for each in organisation.subscriptions.values():
        each["consumerInputs"]["url"] = "https://TRIAGE.contoso.example:443/hooks/azure-devops/"
    assert kinds(hooks.install(door, wanted)) == ["keep"] * 4


def test_comparing_needs_nobody(wanted: list[hooks.Wanted]) -> None:
    assert kinds(hooks.compare(wanted, [])) == ["create"] * 4

    def there(each: hooks.Wanted, **change: Any) -> Subscription:
        made = administration.subscription({**each.content(), "id": "1", "status": "enabled"})
        return replace(made, **change)

    assert kinds(hooks.compare(wanted[:1], [there(wanted[0])])) == ["keep"]
    assert kinds(hooks.compare(wanted[:1], [there(wanted[1])])) == ["create"]
    assert kinds(hooks.compare(wanted[:1], [there(wanted[0], status="onProbation")])) == ["recreate"]
    assert kinds(hooks.compare(wanted[:1], [there(wanted[0])], refused={"1"})) == ["update"]


@pytest.mark.parametrize(
    ("hook", "url", "told"),
    [
        (Hook(password=SecretStr("p")), "", "server.public_url is not set"),
        (Hook(password=SecretStr("p")), "http://triage.contoso.example", "only over https"),
        (Hook(), "https://triage.contoso.example", "hook.password is not set"),
    ],
)
def test_a_hook_that_could_not_work_is_not_installed(hook: Hook, url: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        hooks.web_hook(hook, url)


def test_a_secret_header_is_sent_when_there_is_no_password() -> None:
    hook = Hook(header_value=SecretStr("knock-knock"))
    made = hooks.web_hook(hook, "https://triage.contoso.example")
    assert made.inputs["httpHeaders"] == "X-Triage-Secret:knock-knock"
    assert "knock-knock" not in repr(made)


def settings(played: Played) -> dict[str, str]:
    return {
        "TRIAGE_AZURE_DEVOPS__URL": played.url,
        "TRIAGE_AZURE_DEVOPS__TOKEN": TOKEN,
        "TRIAGE_HOOK__PASSWORD": PASSWORD,
        "TRIAGE_SERVER__PUBLIC_URL": "https://triage.contoso.example",
    }


def test_the_command_installs_tells_and_repairs(played: Played, organisation: Organisation) -> None:
    done = triage("hooks", "install", settings=settings(played))
    assert (done.returncode, b"--all-projects" in done.stderr) == (2, True)
    done = triage("hooks", "install", "--project", "Nowhere", settings=settings(played))
    assert "There are: Shop, Small." in done.stderr.decode()
    done = triage("hooks", "install", "--project", "shop", settings=settings(played))
    assert (done.returncode, done.stderr) == (0, b"")
    assert "Shop, run failed: created" in done.stdout.decode()
    assert f"3 changed, 0 left. They send to {URL}" in done.stdout.decode()
    assert "https://triage.contoso.example/deliveries" in done.stdout.decode()
    assert triage("hooks", "status", settings=settings(played)).returncode == 0
    first(organisation)["status"] = "disabledBySystem"
    done = triage("hooks", "status", "--format", "json", settings=settings(played))
    told = json.loads(done.stdout)
    assert (done.returncode, [each["ok"] for each in told]) == (1, [False, True, True])
    done = triage("hooks", "repair", "--all-projects", "--format", "json", settings=settings(played))
    assert [step["did"] for step in json.loads(done.stdout)] == [
        *("recreate", "keep", "keep"),
        *("create", "create", "create"),
    ]
    everything = done.stdout + done.stderr
    assert PASSWORD.encode() not in everything


def test_changes_of_connections_are_subscribed_to_where_they_are_offered(
    door: azdo.Door, organisation: Organisation, projects: list[Project], target: hooks.Target
) -> None:
    offered = hooks.offered(door, hooks.CONNECTIONS)
    assert offered == replace(hooks.CONNECTIONS, version="1.0"), "newer than its preview"
    wanted = hooks.wanted(projects, target, [offered])
    assert kinds(hooks.install(door, wanted)) == ["create"] * 2
    assert kinds(hooks.install(door, wanted)) == ["keep"] * 2
    assert first(organisation)["publisherInputs"] == {"projectId": projects[0].id}
    first(organisation)["status"] = "disabledBySystem"
    assert [each.ok for each in hooks.status(door, wanted)] == [False, True]
    assert kinds(hooks.install(door, wanted, repair=True)) == ["recreate", "keep"]


def test_a_server_that_does_not_offer_them_is_no_fault(played: Played, organisation: Organisation) -> None:
    organisation.events_missing.add(hooks.CONNECTIONS.type)
    for command in ("install", "status", "repair"):
        done = triage("hooks", command, "--project", "shop", settings=settings(played))
        assert (done.returncode, done.stderr) == (0, b"")
        assert "offers no event of changed service connections here" in done.stdout.decode()
    assert len(organisation.subscriptions) == 2


def test_one_that_is_not_taken_costs_nothing_else(
    door: azdo.Door, organisation: Organisation, projects: list[Project], target: hooks.Target
) -> None:
    wanted = hooks.wanted(projects, target, (*hooks.BUILDS, hooks.CONNECTIONS))
    organisation.events_missing.add(hooks.CONNECTIONS.type)  # between the asking and the subscribing
    done = hooks.install(door, wanted)
    assert kinds(done) == ["create", "create", "leave"] * 2
    assert "triage does without" in done[2].reason
    assert all(each.ok for each in hooks.status(door, wanted))


def test_one_that_is_denied_costs_nothing_else(
    door: azdo.Door, organisation: Organisation, projects: list[Project], target: hooks.Target
) -> None:
    hooks.install(door, hooks.wanted(projects, target, hooks.BUILDS))
    body, headers = b'{"message": "Access denied."}', {"Content-Type": "application/json"}
    denied = Fault("POST", "/hooks/subscriptions", times=9, status=403, body=body, headers=headers)
    organisation.faults.append(denied)
    done = hooks.install(door, hooks.wanted(projects, target, (*hooks.BUILDS, hooks.CONNECTIONS)))
    assert kinds(done) == ["keep", "keep", "leave"] * 2
    with pytest.raises(AccessRefused):
        hooks.install(door, hooks.wanted(projects, target, hooks.RELEASES))
