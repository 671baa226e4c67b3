"""The door, at the wire: a played organisation answers, well or badly."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.conftest import (
    BROKEN,
    ENDPOINT,
    PIPELINE,
    PULL_REQUEST,
    REPOSITORY,
    RUN,
    TOKEN,
    fill,
)
from triage import azdo
from triage.domain import RunRef
from triage.errors import AccessRefused, Cancel, RetryLater, Snooze, UsageError
from triage.sandbox.organisation import Fault

if TYPE_CHECKING:
    from triage.sandbox.organisation import Organisation, Project
    from triage.sandbox.server import Played

REF = RunRef("Shop", RUN)


@pytest.fixture
def door(played: Played) -> azdo.Door:
    return azdo.connect(played.url, TOKEN)


def test_a_run_is_read_with_its_pipeline_and_its_page(door: azdo.Door, played: Played, shop: Project) -> None:
    run = door.run(REF)
    assert (run.number, run.pipeline_id, run.pipeline_name, run.failed) == (
        "20261121.1",
        PIPELINE,
        "deploy",
        True,
    )
    assert run.project_id == shop.id
    assert run.url == f"{played.url}/Shop/_build/results?buildId={RUN}"


def test_a_pull_requests_run_says_which(door: azdo.Door, shop: Project) -> None:
    shop.builds[RUN] |= {"reason": "pullRequest", "sourceBranch": "refs/pull/359/merge"}
    assert door.run(REF).pull_request == PULL_REQUEST


def test_a_project_may_have_an_ampersand_in_its_name(
    door: azdo.Door, organisation: Organisation, played: Played
) -> None:
    fill(organisation.add_project("R&D"))
    run = door.run(RunRef("R&D", RUN))
    assert run.url == f"{played.url}/R%26D/_build/results?buildId={RUN}"
    assert len(door.timeline(run.ref)) == 1


def test_a_deleted_run_is_nothing_to_do(door: azdo.Door) -> None:
    with pytest.raises(Cancel, match="does not exist"):
        door.run(RunRef("Shop", 4711))


def test_the_timeline_is_that_of_the_last_attempt(door: azdo.Door) -> None:
    (record,) = door.timeline(REF)
    assert record.attempt == 2
    assert record.task is not None
    assert str(record.task) == "AzureCLI@2"
    assert len(record.issues) == 10


@pytest.mark.parametrize(
    ("said", "read"),
    [("2026-11-21T03:11:02.1234567Z", datetime(2026, 11, 21, 3, 11, 2, 123456, UTC)), (None, None)],
)
def test_a_record_says_when_it_ended(
    door: azdo.Door, shop: Project, said: str | None, read: datetime | None
) -> None:
    for timeline in shop.timelines[RUN].values():
        for record in timeline["records"]:
            record["finishTime"] = said
    assert [record.finished_at for record in door.timeline(REF)] == [read]


def test_a_run_without_jobs_has_an_empty_timeline(door: azdo.Door, shop: Project) -> None:
    del shop.current_timeline[RUN]
    assert door.timeline(REF) == ()


def test_a_log_streams_as_it_is(door: azdo.Door) -> None:
    assert b"".join(door.log_chunks(REF, 2)) == b"one\r\ntwo\nthree\nfour\n"


def test_the_expanded_yaml_comes_without_its_byte_order_mark(door: azdo.Door) -> None:
    assert (door.expanded_yaml(REF) or "").startswith("stages:")


def test_connections_carry_no_secret(door: azdo.Door, shop: Project) -> None:
    assert {c.name for c in door.connections(shop.id)} == {"prod-arm", "broken"}
    found = door.connection(shop.id, ENDPOINT)
    assert found is not None
    assert "must never be seen" not in str(found)
    assert (found.type, found.creation_mode, found.authentication) == ("azurerm", "automatic", "spnkey")
    assert not {c.id: c for c in door.connections(shop.id)}[BROKEN].is_ready


def test_a_connections_name_cannot_change_the_question(door: azdo.Door, shop: Project) -> None:
    shop.endpoints[ENDPOINT]["name"] = "a & b#c"
    assert [c.id for c in door.connections_by_name(shop.id, ["a & b#c"])] == [ENDPOINT]
    assert door.connections_by_name(shop.id, ["x&endpointNames=a & b#c"]) == ()


@pytest.mark.parametrize(
    "key", ["serviceBusConnectionString", "passphrase", "sasUri", "pat", "gitCredential"]
)
def test_what_could_be_a_secret_is_left_out(door: azdo.Door, shop: Project, key: str) -> None:
    shop.endpoints[ENDPOINT]["data"][key] = "must never be seen"
    assert "must never be seen" not in str(door.connection(shop.id, ENDPOINT))


def test_an_unknown_connection_is_none(door: azdo.Door, shop: Project) -> None:
    assert door.connection(shop.id, "00000000-0000-4000-8000-000000000000") is None
    assert door.connection(shop.id, "../../projects") is None


def test_the_execution_history_is_read_page_by_page(door: azdo.Door, shop: Project) -> None:
    uses = door.execution_history(shop.id, ENDPOINT, top=2)
    assert [use.owner_id for use in uses] == [0, 1, 2, 3, 4]


def test_a_tag_put_twice_is_there_once(door: azdo.Door, shop: Project) -> None:
    for _ in range(2):
        door.add_tag(REF, "expired-credential")
    assert shop.build_tags[RUN] == ["expired-credential"]


def test_threads_are_closed_and_found_by_their_property(door: azdo.Door, shop: Project) -> None:
    made = door.create_thread(shop.id, REPOSITORY, PULL_REQUEST, "hello", properties={"triage.key": "k"})
    (found,) = door.threads(shop.id, REPOSITORY, PULL_REQUEST)
    assert (found.id, found.status, dict(found.properties)) == (made.id, "closed", {"triage.key": "k"})
    door.update_comment(shop.id, REPOSITORY, PULL_REQUEST, made.id, found.comments[0][0], "hello again")
    assert door.threads(shop.id, REPOSITORY, PULL_REQUEST)[0].comments[0][1] == "hello again"


def test_bugs_have_repro_steps_and_basic_has_no_bugs(door: azdo.Door, organisation: Organisation) -> None:
    small = organisation.find_project("Small")
    shop = organisation.find_project("Shop")
    assert small is not None
    assert shop is not None
    assert door.bug_category(shop.id) == "Bug"
    assert "Microsoft.VSTS.TCM.ReproSteps" in door.work_item_types(shop.id)["Bug"]
    assert door.bug_category(small.id) is None
    assert "Bug" not in door.work_item_types(small.id)
    assert door.work_item_states(small.id, "Issue")["Done"] == "Completed"


def test_an_unknown_assignee_is_told_apart(door: azdo.Door, shop: Project) -> None:
    patch = [
        {"op": "add", "path": "/fields/System.Title", "value": "t"},
        {"op": "add", "path": "/fields/System.AssignedTo", "value": "nobody@contoso.example"},
    ]
    with pytest.raises(azdo.FieldRefused) as refused:
        door.create_work_item(shop.id, "Bug", patch)
    assert refused.value.field == "System.AssignedTo"


def test_an_unknown_field_is_told_apart(door: azdo.Door, shop: Project) -> None:
    patch = [{"op": "add", "path": "/fields/Custom.Missing", "value": "t"}]
    with pytest.raises(azdo.FieldRefused) as refused:
        door.create_work_item(shop.id, "Bug", patch)
    assert refused.value.field == "Custom.Missing"


def test_a_change_in_between_is_a_conflict(door: azdo.Door, shop: Project) -> None:
    item = door.create_work_item(
        shop.id, "Bug", [{"op": "add", "path": "/fields/System.Title", "value": "t"}]
    )
    patch: list[dict[str, object]] = [
        {"op": "test", "path": "/rev", "value": item.revision + 5},
        {"op": "add", "path": "/fields/System.Title", "value": "u"},
    ]
    with pytest.raises(azdo.RevisionConflict):
        door.update_work_item(shop.id, item.id, patch)


def test_work_items_are_found_by_their_whole_tag(door: azdo.Door, shop: Project) -> None:
    patch = [
        {"op": "add", "path": "/fields/System.Title", "value": "t"},
        {"op": "add", "path": "/fields/System.Tags", "value": "triage; triage-00aa"},
    ]
    item = door.create_work_item(shop.id, "Bug", patch)
    assert door.find_work_items(shop.id, "triage-00aa") == [item.id]
    assert door.find_work_items(shop.id, "triage-00ab") == []
    with pytest.raises(ValueError, match="no tag of ours"):
        door.find_work_items(shop.id, "x' OR 1=1")


def test_the_newest_work_items_of_a_tag_are_found_however_many_there_were(
    door: azdo.Door, shop: Project
) -> None:
    """A secret that ends every three months leaves a closed one each time."""
    patch = [
        {"op": "add", "path": "/fields/System.Title", "value": "Renew the connection"},
        {"op": "add", "path": "/fields/System.Tags", "value": "triage-00aa"},
    ]
    filed = [door.create_work_item(shop.id, "Bug", patch).id for _ in range(25)]
    assert door.find_work_items(shop.id, "triage-00aa") == filed[-20:]


@pytest.mark.parametrize("how", ["203", "302"])
def test_a_sign_in_page_is_a_refused_token(door: azdo.Door, organisation: Organisation, how: str) -> None:
    door.run(REF)
    organisation.sign_in_page = how
    with pytest.raises(AccessRefused, match=r"azure_devops\.token"):
        door.run(REF)
    assert organisation.sign_in_visits == 0


def test_a_wrong_token_is_refused_and_says_what_to_check(played: Played) -> None:
    with pytest.raises(AccessRefused, match=r"TRIAGE_AZURE_DEVOPS__TOKEN"):
        azdo.connect(played.url, "wrong").run(REF)


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (Fault("GET", "builds/42$", status=429, headers={"Retry-After": "7"}), Snooze),
        (Fault("GET", "builds/42$", status=429), Snooze),
        (Fault("GET", "builds/42$", status=503, headers={"Retry-After": "7"}), Snooze),
        (Fault("GET", "builds/42$", status=429, headers={"Retry-After": "nan"}), Snooze),
        (Fault("GET", "builds/42$", status=500), RetryLater),
        (Fault("GET", "builds/42$", status=502, body=b"<html>bad gateway</html>"), RetryLater),
        (
            Fault("GET", "builds/42$", status=200, body=b"", headers={"Content-Type": "application/json"}),
            RetryLater,
        ),
        (
            Fault("GET", "builds/42$", status=200, body=b"{", headers={"Content-Type": "application/json"}),
            RetryLater,
        ),
        (
            Fault("GET", "builds/42$", status=200, body=b"[1]", headers={"Content-Type": "application/json"}),
            RetryLater,
        ),
        (Fault("GET", "builds/42$", drop=True), RetryLater),
        (Fault("GET", "builds/42$", status=403), AccessRefused),
    ],
    ids=lambda value: f"{value.status or 'dropped'}-{len(value.body)}" if isinstance(value, Fault) else "",
)
def test_each_bad_answer_has_its_consequence(
    played: Played, organisation: Organisation, fault: Fault, answer: type[Exception]
) -> None:
    door = azdo.connect(played.url, TOKEN, limits=azdo.Limits(patience_seconds=0))
    door.timeline(REF)
    organisation.faults.append(fault)
    with pytest.raises(answer) as told:
        door.run(REF)
    if isinstance(told.value, Snooze):
        wanted = 7 if fault.headers.get("Retry-After") == "7" else 30
        assert told.value.seconds == pytest.approx(wanted, abs=1)
    fault.times = 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "dev.azure.com/contoso",
        "http://dev.azure.com/contoso",
        "https://dev.azure.com",
        "https://dev.azure.com/contoso/Shop",
        "https://user@dev.azure.com/contoso",
        "https://dev.azure.com/contoso?x=1",
        "ftp://127.0.0.1/contoso",
        "https://[",
        "https://dev.azure.com:abc/contoso",
    ],
)
def test_what_is_no_organisation_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="looks like https://dev"):
        azdo.connect(url, "t")


@pytest.mark.parametrize(
    "url",
    [
        "https://dev.azure.com/contoso",
        "https://contoso.visualstudio.com",
        "https://tfs.contoso.example/tfs/Main",
    ],
)
def test_each_kind_of_organisation_is_taken(url: str) -> None:
    door = azdo.connect(url, "t")
    assert door.parse_run_url(f"{url}/Shop%20One/_build/results?buildId=42&view=results") == RunRef(
        "Shop One", 42
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/contoso/Shop/_build/results?buildId=42",
        "https://dev.azure.com/other/Shop/_build/results?buildId=42",
        "https://dev.azure.com/contoso/Shop/_build/results",
        "https://dev.azure.com/contoso/Shop/_git/web?buildId=42",
        "https://dev.azure.com/contoso/..%2F..%2Fx/_build/results?buildId=42",
        "https://[",
        "https://dev.azure.com:abc/contoso/Shop/_build/results?buildId=42",
        "https://dev.azure.com/contoso/Shop/_build/results?buildId=\N{SUPERSCRIPT TWO}",
    ],
)
def test_what_is_no_run_of_ours_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="not the page of a run"):
        azdo.connect("https://dev.azure.com/contoso", "t").parse_run_url(url)


def test_the_case_of_an_organisations_name_does_not_matter() -> None:
    door = azdo.connect("https://dev.azure.com/contoso", "t")
    assert door.parse_run_url("https://dev.azure.com/Contoso/Shop/_build/results?buildId=42") == RunRef(
        "Shop", 42
    )


@pytest.mark.parametrize("address", ["http://localhost:9/contoso", "https://elsewhere.example/contoso"])
def test_the_token_goes_neither_in_the_clear_nor_elsewhere(
    played: Played, organisation: Organisation, address: str
) -> None:
    areas = (
        f'{{"count":1,"value":[{{"id":"965220d5-5bb9-42cf-8d67-9b146df2a5a4","locationUrl":"{address}"}}]}}'
    )
    organisation.faults.append(
        Fault(
            "GET",
            "ResourceAreas$",
            status=200,
            body=areas.encode(),
            headers={"Content-Type": "application/json"},
        )
    )
    with pytest.raises(AccessRefused, match="token"):
        azdo.connect(played.url, TOKEN, extra_hosts=["localhost"]).run(REF)
