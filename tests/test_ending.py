"""Before it breaks: one work item for each credential that ends soon, and what becomes of it."""

from __future__ import annotations

import json
import re
import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from pydantic import SecretStr
from sqlmodel import Session, select

from tests.databases import rows
from tests.test_cli import triage
from triage import azdo, config, db, diagnosis, ending, jobs, owner, plan, renewal, worker
from triage.errors import RetryLater, UsageError
from triage.sandbox import entra, server
from triage.sandbox.organisation import Fault, Organisation, wire_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

    from triage import match
    from triage.sandbox.organisation import Project

JOB = db.Job(key="expiry@1", kind=jobs.Kind.EXPIRY, lease="one/1")
TODAY = datetime.now(UTC)


def day(ahead: float) -> str:
    return f"{TODAY + timedelta(days=ahead):%Y-%m-%d}"


@pytest.fixture
def organisation() -> Iterator[Organisation]:
    organisation = Organisation("contoso")
    organisation.add_user("jo@contoso.example", "Jo")
    organisation.add_user("chris@contoso.example", "Chris")
    organisation.add_project("Shop")
    with server.serve(organisation, token="played"):
        yield organisation


def shop(organisation: Organisation) -> Project:
    return organisation.add_project("Shop")


@pytest.fixture
def settings(organisation: Organisation) -> config.Settings:
    return config.load(
        azure_devops={"url": organisation.url, "token": "played"}, policy={"settle_seconds": 0}
    )


def add(project: Project, organisation: Organisation, name: str, **changes: Any) -> dict[str, Any]:
    """Add a manual secret of Jo's; `days`: what its description says is left."""
    days, changed = changes.pop("days", None), changes.pop("changed", 80)
    jo = next(user for user in organisation.users.values() if user["displayName"] == "Jo")
    number = str(uuid.uuid4())
    project.endpoints[number] = {
        "id": number,
        "name": name,
        "type": "azurerm",
        "description": "" if days is None else f"key of the deployment, expires {day(days)}",
        "authorization": {
            "scheme": "ServicePrincipal",
            "parameters": {
                "tenantid": "t",
                "serviceprincipalid": str(uuid.uuid4()),
                "authenticationType": "spnKey",
                "serviceprincipalkey": "must never be seen",
            },
        },
        "data": {"creationMode": "Manual"},
        "createdBy": jo,
        "modifiedBy": jo,
        "creationDate": wire_time(TODAY - timedelta(days=200)),
        "modificationDate": wire_time(TODAY - timedelta(days=changed)),
        "isReady": True,
        **changes,
    }
    return project.endpoints[number]


def use(project: Project, endpoint: dict[str, Any], *, days_ago: float, pipeline: str = "deploy") -> None:
    project.uses.setdefault(endpoint["id"], []).append(
        {
            "id": 1,
            "planType": "Build",
            "definition": {"id": 7, "name": pipeline},
            "owner": {"id": 42, "name": "42"},
            "result": "succeeded",
            "finishTime": wire_time(TODAY - timedelta(days=days_ago)),
        }
    )


def knowledge(settings: config.Settings) -> diagnosis.Knowledge:
    return diagnosis.Knowledge(
        pack=cast("match.Pack", None),  # no log is read
        recipes=renewal.load(),
        owners=None,
        fallback=owner.Fallback(),
        policy=plan.Policy.from_settings(settings.policy, settings.after_renewal),
        pages_url=settings.pages_url,
    )


def look(engine: Engine, settings: config.Settings) -> str:
    account, known = azdo.account(settings.azure_devops), knowledge(settings)
    return ending.round_of(account.door(), engine, settings, known, account, JOB)


def items(project: Project) -> list[dict[str, Any]]:
    return [item["fields"] for item in project.work_items.values()]


def said(project: Project) -> list[str]:
    return [comment["text"] for each in project.comments.values() for comment in each]


def test_the_owner_gets_one_item_is_reminded_and_hears_of_the_renewal(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    project = shop(organisation)
    endpoint = add(project, organisation, "prod-arm", days=20)
    use(project, endpoint, days_ago=3)
    add(project, organisation, "far away", days=40)
    add(project, organisation, "has ended", days=-3)
    add(project, organisation, "nobody knows")
    assert "1 end within 30 days; work items: 1 filed" in look(engine, settings)
    assert "0 filed, 0 reminded of" in look(engine, settings)
    (item,) = items(project)
    assert item["System.Title"] == f"[triage] Renew the credential of prod-arm before {day(20)}"
    assert item["System.AssignedTo"]["uniqueName"] == "jo@contoso.example"
    assert {"triage", "expires-in-30-days"} <= set(item["System.Tags"].split("; "))
    text = item["Microsoft.VSTS.TCM.ReproSteps"]
    assert "in 20 days" in text
    assert "**Used by** deploy, the last time on" in text
    assert f"(http://127.0.0.1:8080/connections/{endpoint['id']})" in text
    assert "az ad app credential reset" in text, "the steps of this kind of connection"
    assert "new day into the connection's description" in text
    assert "must never be seen" not in text

    endpoint["description"] = f"expires {day(14)}"
    for _ in range(2):
        look(engine, settings)
    (comment,) = said(project)
    assert "14 days left" in comment
    (item,) = items(project)
    assert "expires-in-14-days" in item["System.Tags"]
    assert "expires-in-30-days" not in item["System.Tags"]

    endpoint["description"] = f"expires {day(365)}"
    assert "1 closed" in look(engine, settings)
    assert [each["System.State"] for each in items(project)] == ["Closed"]
    assert "The end has moved" in said(project)[-1]
    look(engine, settings)
    assert len(items(project)) == 1

    endpoint["description"] = f"expires {day(7)}"
    look(engine, settings)
    assert [each["System.State"] for each in items(project)] == ["Closed", "New"], (
        "another time, another item"
    )


def test_a_worker_looks_by_itself_once_in_a_period(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    add(shop(organisation), organisation, "prod-arm", days=20)
    settings.sweep.every_seconds = settings.watch.every_seconds = settings.after_renewal.every_seconds = 0
    settings.history.keep_days = 0
    one = worker.Worker(settings, engine, knowledge(settings), threading.Event())
    for _ in range(2):
        one.next_rounds = 0.0
        one.put_rounds()
    door = one.account.door()
    job = jobs.claim(engine, one.id)
    assert job is not None
    one.handle(door, job)
    assert jobs.claim(engine, one.id) is None
    assert len(items(shop(organisation))) == 1


def test_a_connection_that_projects_share_gets_one_item(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    endpoint = add(shop(organisation), organisation, "shared", days=5)
    web = organisation.add_project("Web")
    web.endpoints[endpoint["id"]] = endpoint
    look(engine, settings)
    assert [len(items(each)) for each in (shop(organisation), web)] == [1, 0]
    (item,) = items(shop(organisation))
    assert "**Shop**, **Web**" in item["Microsoft.VSTS.TCM.ReproSteps"]
    assert "**Nobody uses it**" in item["Microsoft.VSTS.TCM.ReproSteps"]


def test_a_lost_reply_files_nothing_twice(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    add(shop(organisation), organisation, "prod-arm", days=5)
    organisation.faults.append(Fault("POST", r"/workitems/\$", lose_reply=True))
    with pytest.raises(RetryLater):
        look(engine, settings)
    look(engine, settings)
    assert len(items(shop(organisation))) == 1


def test_whoever_closed_the_item_is_left_in_peace(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    project = shop(organisation)
    endpoint = add(project, organisation, "prod-arm", days=20)
    look(engine, settings)
    items(project)[0]["System.State"] = "Closed"
    endpoint["description"] = f"expires {day(6)}"
    look(engine, settings)
    assert (len(items(project)), said(project)) == (1, [])


@pytest.mark.parametrize("how", ["deleted", "federated"])
def test_what_cannot_end_any_more_is_closed(
    organisation: Organisation, engine: Engine, settings: config.Settings, how: str
) -> None:
    project = shop(organisation)
    endpoint = add(project, organisation, "prod-arm", days=20)
    look(engine, settings)
    if how == "deleted":
        del project.endpoints[endpoint["id"]]
    else:
        endpoint["authorization"]["scheme"] = "WorkloadIdentityFederation"
    look(engine, settings)
    assert [each["System.State"] for each in items(project)] == ["Closed"]
    assert ("does not see" if how == "deleted" else "does not end any more") in said(project)[-1]


def test_a_project_that_is_hidden_for_once_closes_nothing(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    project = shop(organisation)
    add(project, organisation, "prod-arm", days=20)
    look(engine, settings)
    organisation.faults.append(Fault("GET", "/serviceendpoint/endpoints", times=5, status=403))
    assert "The connections of Shop are not shown to triage" in look(engine, settings)
    assert [each["System.State"] for each in items(project)] == ["New"]


def test_one_round_files_no_more_than_a_project_can_take(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    project = shop(organisation)
    for number in range(4):
        add(project, organisation, f"connection-{number}", days=20 - number)
    settings.policy.items_per_project_hour = 3
    assert "3 filed, 0 reminded of, 0 closed, 1 put off" in look(engine, settings)
    filed = {each["System.Title"].split()[5] for each in items(project)}
    assert filed == {"connection-1", "connection-2", "connection-3"}, "those that end first"
    look(engine, settings)
    assert len(items(project)) == 4


def test_triage_watches_its_own_credentials(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    settings.azure_devops.expires_on = (TODAY + timedelta(days=7)).date()
    look(engine, settings)
    assert items(shop(organisation)) == [], "nobody has said where"
    settings.watch.project = "Shop"
    for _ in range(2):
        look(engine, settings)
    (item,) = items(shop(organisation))
    assert item["System.Title"] == f"[triage] Renew the credential of triage itself before {day(7)}"
    settings.azure_devops.expires_on = (TODAY + timedelta(days=300)).date()
    look(engine, settings)
    assert [each["System.State"] for each in items(shop(organisation))] == ["Closed"]


def test_what_signs_in_to_the_queue_is_not_said_to_sign_in_to_azure_devops(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    settings.watch.project = "Shop"
    settings.service_bus.namespace = "contoso.servicebus.windows.net"
    settings.service_bus.credential = config.Credential(
        auth="service-principal", expires_on=(TODAY + timedelta(days=7)).date()
    )
    look(engine, settings)
    (item,) = items(shop(organisation))
    text = item["Microsoft.VSTS.TCM.ReproSteps"]
    assert "signs in to its queue of Azure Service Bus" in text
    assert "personal access token" not in text
    assert "`service_bus.credential.expires_on`" in text
    settings.service_bus.credential = config.Credential()
    look(engine, settings)
    assert "settings have no <code>service_bus.credential</code> any more" in said(shop(organisation))[-1]


def test_an_automatic_secret_that_outlived_its_time_is_no_alarm(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    project = shop(organisation)
    add(project, organisation, "young", changed=75, data={"creationMode": "Automatic"})
    old = add(project, organisation, "old", changed=720, data={"creationMode": "Automatic"})
    use(project, old, days_ago=2)
    add(project, organisation, "dead", changed=720, data={"creationMode": "Automatic"})
    look(engine, settings)
    titles = {each["System.Title"].split()[5]: each for each in items(project)}
    assert set(titles) == {"young", "old"}
    assert "probably ends on" in titles["young"]["Microsoft.VSTS.TCM.ReproSteps"]
    assert "made for two years" in titles["old"]["Microsoft.VSTS.TCM.ReproSteps"]


def kept(engine: Engine) -> dict[str, db.SeenConnection]:
    with Session(engine, expire_on_commit=False) as session:
        return {row.name: row for row in session.exec(select(db.SeenConnection))}


def test_what_a_round_saw_is_kept_for_the_pages(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    project = shop(organisation)
    soon = add(project, organisation, "soon", days=5)
    use(project, soon, days_ago=2, pipeline="nightly")
    add(project, organisation, "nobody knows")
    look(engine, settings)
    seen = kept(engine)
    assert set(seen) == {"soon", "nobody knows", "triage itself"}
    assert (seen["soon"].ends_at, seen["soon"].source) == (
        datetime.fromisoformat(f"{day(5)}T00:00+00:00"),
        "description",
    )
    assert (seen["soon"].pipelines, seen["soon"].work_item) == ('["nightly"]', min(project.work_items))
    assert (seen["soon"].work_item_url or "").endswith(f"/_workitems/edit/{min(project.work_items)}")
    assert seen["nobody knows"].uses_asked_at is not None, "asked although nothing is said of it"
    assert "must never be seen" not in rows(engine)

    del project.endpoints[soon["id"]]
    look(engine, settings)
    assert set(kept(engine)) == {"nobody knows", "triage itself"}
    organisation.faults.append(Fault("GET", "/serviceendpoint/endpoints", times=5, status=403))
    look(engine, settings)
    assert "nobody knows" in kept(engine), "hidden for once"


def test_one_round_asks_who_uses_some_and_the_next_one_others(
    organisation: Organisation, engine: Engine, settings: config.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "_ASKED_AT_ONCE", 2)
    for number in range(4):
        endpoint = add(shop(organisation), organisation, f"connection-{number}")
        use(shop(organisation), endpoint, days_ago=1)
    asked = []
    for _ in range(2):
        look(engine, settings)
        asked.append({name for name, row in kept(engine).items() if row.uses_asked_at})
    assert [len(each) for each in asked] == [2, 4]
    assert {row.pipelines for row in kept(engine).values() if row.type} == {'["deploy"]'}


def test_who_may_not_be_asked_about_holds_up_none_of_the_others(
    organisation: Organisation, engine: Engine, settings: config.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "_ASKED_AT_ONCE", 1)
    hidden = add(shop(organisation), organisation, "hidden")
    organisation.faults.append(Fault("GET", f"{hidden['id']}/executionhistory", times=9, status=403))
    add(shop(organisation), organisation, "shown")
    for _ in range(3):
        look(engine, settings)
    assert kept(engine)["hidden"].pipelines == "null"
    assert (kept(engine)["shown"].pipelines, kept(engine)["shown"].uses_asked_at is None) == ("[]", False)


def test_what_outlived_its_time_is_remembered_while_nobody_asks_again(
    organisation: Organisation, engine: Engine, settings: config.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = shop(organisation)
    old = add(project, organisation, "old", changed=200, data={"creationMode": "Automatic"})
    use(project, old, days_ago=1)
    look(engine, settings)
    ends = kept(engine)["old"].ends_at
    assert ends is not None
    assert (ends - TODAY).days > 365
    monkeypatch.setattr(ending, "_ASKED_AT_ONCE", 0)
    look(engine, settings)
    assert kept(engine)["old"].ends_at == ends
    old["modificationDate"] = wire_time(TODAY - timedelta(days=10))
    look(engine, settings)
    assert (kept(engine)["old"].ends_at or ends) < ends, "changed since: what was seen is of another secret"


@pytest.fixture
def authority(
    organisation: Organisation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[entra.Authority]:
    with entra.serve(organisation, tmp_path) as served:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", served.ca_file)
        yield served


@pytest.fixture
def with_graph(organisation: Organisation, authority: entra.Authority) -> config.Settings:
    roles = frozenset({"Application.Read.All"})
    application = authority.add(secrets={"s3cret": TODAY + timedelta(days=90)}, graph_roles=roles)
    return config.load(
        azure_devops={
            "url": organisation.url,
            "auth": "service-principal",
            "tenant_id": application.tenant_id,
            "client_id": application.client_id,
            "client_secret": SecretStr("s3cret"),
            "authority": authority.url,
        },
        policy={"settle_seconds": 0},
        expiry={"graph": True, "graph_url": authority.url},
    )


def application_of(endpoint: dict[str, Any]) -> str:
    return str(endpoint["authorization"]["parameters"]["serviceprincipalid"])


def test_entra_tells_when_a_secret_ends(
    organisation: Organisation, authority: entra.Authority, with_graph: config.Settings, engine: Engine
) -> None:
    project = shop(organisation)
    endpoint = add(project, organisation, "prod-arm")
    add(project, organisation, "of another tenant")
    app = application_of(endpoint)
    authority.graph.register(app)
    authority.graph.add_secret(app, starts=TODAY - timedelta(days=81), ends=TODAY + timedelta(days=9))
    authority.graph.busy = 1
    assert "1 end within 30 days" in look(engine, with_graph)
    (item,) = items(project)
    assert f"before {day(9)}" in item["System.Title"]
    assert "as Entra says" in item["Microsoft.VSTS.TCM.ReproSteps"]

    for name in authority.applications:  # Graph tells nothing any more: that is no renewal
        authority.applications[name].graph_roles = frozenset()
    endpoint["description"] = f"expires {day(300)}"
    assert "grant its identity the application permission Application.Read.All" in look(engine, with_graph)
    assert [each["System.State"] for each in items(project)] == ["New"]

    for name in authority.applications:
        authority.applications[name].graph_roles = frozenset({"Application.Read.All"})
    authority.graph.add_secret(app, starts=TODAY, ends=TODAY + timedelta(days=365))
    look(engine, with_graph)
    assert [each["System.State"] for each in items(project)] == ["New"], "made, but not entered yet"
    endpoint["modificationDate"] = wire_time(TODAY + timedelta(minutes=1))
    look(engine, with_graph)
    assert [each["System.State"] for each in items(project)] == ["Closed"]


def test_graph_that_is_away_makes_triage_know_less(
    organisation: Organisation, with_graph: config.Settings, engine: Engine
) -> None:
    add(shop(organisation), organisation, "prod-arm", days=9)
    with_graph.expiry.graph_url = "https://localhost:1"
    assert "Microsoft Graph could not be asked" in look(engine, with_graph)
    assert len(items(shop(organisation))) == 1


def test_graph_takes_no_personal_access_token(
    organisation: Organisation, engine: Engine, settings: config.Settings
) -> None:
    settings.expiry.graph = True
    with pytest.raises(UsageError, match=r"set azure_devops\.auth to an Entra identity"):
        look(engine, settings)


def run(organisation: Organisation, *arguments: str, **more: str) -> Any:
    given = {"TRIAGE_AZURE_DEVOPS__URL": organisation.url, "TRIAGE_AZURE_DEVOPS__TOKEN": "played", **more}
    return triage("connections", *arguments, settings=given)


@pytest.fixture
def inventory(organisation: Organisation) -> Organisation:
    project = shop(organisation)
    soon = add(project, organisation, "soon", days=5)
    use(project, soon, days_ago=1, pipeline="deploy")
    use(project, soon, days_ago=2, pipeline="nightly")
    wif = {"scheme": "WorkloadIdentityFederation", "parameters": {}}
    add(project, organisation, "federated", authorization=wif)
    return organisation


def test_every_connection_is_listed_with_its_end_and_its_users(inventory: Organisation) -> None:
    done = run(inventory, "list", "--format", "json", TRIAGE_AZURE_DEVOPS__EXPIRES_ON=day(50))
    own, federated, soon = json.loads(done.stdout)
    assert (own["name"], own["days_left"], own["source"]) == ("triage itself", 50, "triage's settings")
    assert (federated["ends_at"], federated["source"], federated["unused"]) == (None, "no secret", True)
    assert (soon["days_left"], soon["source"], soon["pipelines"]) == (5, "description", ["deploy", "nightly"])
    assert b"must never be seen" not in done.stdout
    table = run(inventory, "list", "--unused").stdout.decode()
    assert ("federated" in table, "soon" in table) == (True, False)
    assert "triage connections show NAME has the address" in table


def test_a_project_that_is_not_there_is_named_as_it_was_asked_for(inventory: Organisation) -> None:
    done = run(inventory, "list", "--project", "Elsewhere")
    assert (done.returncode, b"There is no project Elsewhere" in done.stderr) == (2, True)


def test_what_ends_soon_is_told_to_machines_by_the_exit_code(inventory: Organisation) -> None:
    done = run(inventory, "expiring", "--format", "json")
    assert ([each["name"] for each in json.loads(done.stdout)], done.returncode) == (["soon"], 1)
    assert b"triage connections show NAME" in run(inventory, "expiring").stdout
    done = run(inventory, "expiring", "--within", "4")
    assert (done.returncode, b"No credential is known to end within 4 days" in done.stdout) == (0, True)


def test_one_connection_and_its_owner_are_shown(inventory: Organisation) -> None:
    told = run(inventory, "show", "SOON").stdout.decode()
    assert "Jo last changed the connection" in told
    assert "az ad app credential reset" not in told, "steps, not the whole recipe"
    assert re.search(r"renewal +Give 'soon' a new secret", told), told
    assert re.search(r"\n +1\. ", told)
    assert "](" not in told, "as a terminal shows it best"
    assert re.search(r"\n +instead +Never again", told)
    federated = json.loads(run(inventory, "show", "federated", "--format", "json").stdout)
    assert [each["renewal"] for each in federated] == [None]
    refused = run(inventory, "show", "nothing")
    assert (refused.returncode, b"There is no connection 'nothing'" in refused.stderr) == (2, True)
    owners = json.loads(run(inventory, "owners", "--format", "json").stdout)
    assert {each["owner"]["assignee"] for each in owners} == {"jo@contoso.example"}
