"""Every event becomes a run, or a reason why not; nothing ever raises."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triage import intake
from triage.domain import RunRef

SAMPLES = Path(__file__).parent.parent / "samples"
NAMES = sorted(path.stem for path in SAMPLES.glob("*.json"))
OURS = "https://dev.azure.com/FabrikamFiber"
CHANGED = "ms.vss-endpoint.endpoint-updated"
GUID = "11111111-2222-3333-4444-555555555555"


def sample(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text())
    return event


def parse(event: object, ours: str = OURS) -> intake.Notice:
    return intake.parse(json.dumps(event).encode(), ours)


def build(**resource: Any) -> dict[str, Any]:
    event = sample("build-complete-2.0")
    event["resource"] |= {"result": "failed", **resource}
    return event


def pipeline(level: str, *, run_state: str = "completed", **changed: Any) -> dict[str, Any]:
    event = sample(f"{level}-state-changed")
    event["resource"]["projectId"] = GUID
    event["resource"]["run"] |= {"state": run_state, "id": 77}
    if run_state != "completed":
        del event["resource"]["run"]["finishedDate"]
    event["resource"][level] |= {"state": "completed", "result": "failed", **changed}
    return event


@pytest.mark.parametrize("name", NAMES)
def test_each_documented_sample_is_understood(name: str) -> None:
    event = sample(name)
    notice = parse(
        event, "https://dev.azure.com/fabrikam-fiber-inc" if name == "build-complete-1.0" else OURS
    )
    assert notice.kind == "ignored", notice.reason  # all of them tell of a success
    assert notice.event_type == event["eventType"]
    assert notice.event_id == event["id"]
    assert notice.reason


def test_a_failed_build_is_a_run() -> None:
    notice = parse(build())
    assert notice.kind == "run"
    assert notice.ref == RunRef("16dcfeeb-d8fd-495c-917b-fec46cb44fbb", 2727068)
    assert notice.marker == "1669983668"
    assert notice.subscription_id == "4f6e6328-0251-4814-a009-c01dfa368e3f"
    assert notice.notification_id == 1


@pytest.mark.parametrize(
    "resource",
    [
        {"id": GUID.upper(), "name": "prod-arm"},
        {"endpoint": {"id": GUID}, "id": "another-id"},
        {"serviceEndpoint": {"id": GUID}},
        {"endpointId": GUID, "id": "22222222-2222-4000-8000-000000000000"},
        {"serviceEndpointId": GUID},
    ],
)
def test_a_connection_that_was_changed_is_found_in_each_likely_place(resource: dict[str, Any]) -> None:
    event = {"eventType": CHANGED, "resource": resource, "createdDate": "2026-11-21T03:12:00Z"}
    notice = parse(event)
    assert (notice.kind, notice.connection, notice.marker) == ("connection", GUID, "told:1795230720")
    assert parse({**event, "id": "e1"}).marker == "e1"


@pytest.mark.parametrize(
    "resource",
    [None, [], "x", {}, {"id": 7}, {"id": "../../x"}, {"id": "0" * 36}, {"endpoint": [{"id": GUID}]}],
)
def test_a_change_that_cannot_be_read_is_kept_as_told(resource: Any) -> None:
    notice = parse({"eventType": CHANGED, "resource": resource})
    assert (notice.kind, notice.connection, notice.ref) == ("ignored", "", None)
    assert "does not say which connection" in notice.reason


@pytest.mark.parametrize("result", ["failed", "partiallySucceeded", "Failed"])
def test_what_can_hide_an_expired_credential_is_a_run(result: str) -> None:
    assert parse(build(result=result)).kind == "run"


@pytest.mark.parametrize("result", ["succeeded", "canceled", "none"])
def test_what_did_not_fail_is_ignored(result: str) -> None:
    notice = parse(build(result=result))
    assert notice.kind == "ignored"
    assert result in notice.reason


def test_an_event_without_details_is_left_to_the_worker() -> None:
    event = build()
    event["resource"] = {key: event["resource"][key] for key in ("id", "url")}
    notice = parse(event)
    assert notice.ref == RunRef("16dcfeeb-d8fd-495c-917b-fec46cb44fbb", 2727068)
    assert notice.marker == "told:1669983673"


def test_an_old_build_has_its_result_in_its_status() -> None:
    event = sample("build-complete-1.0")
    event["resource"]["status"] = "failed"
    notice = parse(event, "https://dev.azure.com/fabrikam-fiber-inc")
    assert notice.ref == RunRef("71777fbc-1cf2-4bd1-9540-128c1c71f766", 2)


@pytest.mark.parametrize("level", ["run", "stage", "job"])
def test_a_failed_part_of_a_finished_run_is_that_finish(level: str) -> None:
    event = pipeline(level)
    event["resource"]["run"]["finishedDate"] = "2022-12-02T12:21:08.52Z"
    notice = parse(event)
    assert notice.ref == RunRef(GUID, 77)
    assert notice.marker == parse(build()).marker


@pytest.mark.parametrize("level", ["run", "stage", "job"])
def test_what_is_still_running_is_ignored(level: str) -> None:
    assert parse(pipeline(level, state="inProgress", result=None)).kind == "ignored"


def test_a_stage_that_fails_while_its_run_goes_on_is_marked_with_its_attempt() -> None:
    marker = parse(pipeline("stage", run_state="inProgress", name="Deploy", attempt=2)).marker
    assert marker == "stage:Deploy:2"


def test_a_job_that_fails_while_its_run_goes_on_is_marked_with_its_stage() -> None:
    event = pipeline("job", run_state="inProgress", name="Push")
    assert parse(event).marker == "job:__default.Push:1"


def test_a_rejected_stage_is_a_run() -> None:
    assert parse(pipeline("stage", result="rejected")).kind == "run"


def test_a_live_event_may_have_the_run_only_as_a_number() -> None:
    event = pipeline("run")
    del event["resource"]["run"]["id"]
    event["resource"]["runId"] = 78
    assert parse(event).ref == RunRef(GUID, 78)


def test_a_pipeline_event_without_details_says_what_to_change() -> None:
    event = pipeline("run")
    event["resource"] = {}
    notice = parse(event)
    assert notice.kind == "refused"
    assert "resource details" in notice.reason


def failed_deployment() -> dict[str, Any]:
    event = sample("deployment-completed")
    event["resource"]["environment"]["status"] = "rejected"
    return event


def test_a_failed_deployment_is_a_release() -> None:
    event = failed_deployment()
    event["resource"]["project"]["id"] = GUID
    notice = parse(event, "https://fabfiber.visualstudio.com")
    assert notice.ref == RunRef(GUID, 1, "release", 5)
    assert notice.marker == "told:1474290208"


def test_a_deployment_may_name_its_project_only() -> None:
    assert parse(failed_deployment()).ref == RunRef("Fabrikam", 1, "release", 5)


@pytest.mark.parametrize("name", ["..", "a/b", "a%2fb", "_x", "x.", "", "a\nb", "x" * 65, None, 7])
def test_a_name_that_no_project_can_have_is_refused(name: object) -> None:
    event = failed_deployment()
    event["resource"]["project"]["name"] = name
    assert parse(event).kind == "refused"


@pytest.mark.parametrize(
    "ours",
    [
        "https://dev.azure.com/FabrikamFiber",
        "https://dev.azure.com/fabrikamfiber",
        "https://fabrikamfiber.visualstudio.com",
    ],
)
def test_our_organisation_is_known_by_each_of_its_spellings(ours: str) -> None:
    assert parse(build(), ours).kind == "run"


@pytest.mark.parametrize(
    "ours",
    [
        "https://dev.azure.com/fabrikam",
        "https://fabrikam.visualstudio.com",
        "https://ado.corp.example/tfs/DefaultCollection",
        "http://127.0.0.1:8081/FabrikamFiber",
    ],
)
def test_another_organisations_event_is_ignored(ours: str) -> None:
    notice = parse(build(), ours)
    assert notice.kind == "ignored"
    assert "another organisation" in notice.reason
    assert notice.event_id


def test_a_played_organisation_has_its_port() -> None:
    event = build()
    for container in event["resourceContainers"].values():
        container["baseUrl"] = "http://127.0.0.1:8081/contoso/"
    assert parse(event, "http://127.0.0.1:8081/contoso").kind == "run"
    assert parse(event, "http://127.0.0.1:8082/contoso").kind == "ignored"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"42",
        b'"text"',
        b"{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 10_000,
        b'{"eventType": ["build.complete"]}',
    ],
)
def test_what_is_no_event_is_refused(body: bytes) -> None:
    notice = intake.parse(body, OURS)
    assert notice.kind == "refused"
    assert notice.reason


@pytest.mark.parametrize("number", [0, -1, 2**31, 10**30, "42", 4.2, True, None, [42], {"id": 42}])
def test_what_is_no_run_id_is_refused(number: object) -> None:
    assert parse(build(id=number)).kind == "refused"


@pytest.mark.parametrize("moment", ["", "soon", "9999-99-99", "0001-01-01T00:00:00+14:00", None, 7, "٣"])
def test_a_finish_that_is_no_time_is_no_obstacle(moment: object) -> None:
    notice = parse(build(finishTime=moment))
    assert notice.kind == "run"


def test_control_characters_do_not_get_into_what_is_kept() -> None:
    event = build()
    event["id"], event["eventType"] = "a\r\nforged: line", "build.complete\x00"
    notice = parse(event)
    assert notice.event_id == ""
    assert notice.event_type == ""


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, child in inner for path in paths(child, (*at, key)))]


def with_junk(event: Any, path: tuple[Any, ...], junk: Any) -> Any:
    if not path:
        return junk
    changed = copy.copy(event)
    changed[path[0]] = with_junk(event[path[0]], path[1:], junk)
    return changed


FAILED = [build(), pipeline("run"), pipeline("stage"), pipeline("job"), failed_deployment()]
PLACES = [(event, path) for event in FAILED for path in paths(event)]


@settings(deadline=None)  # a busy machine is no failure
@given(place=st.sampled_from(PLACES), junk=JUNK)
def test_junk_in_any_place_never_raises(place: tuple[Any, tuple[Any, ...]], junk: Any) -> None:
    notice = parse(with_junk(*place, junk))
    assert (notice.kind == "run") == (notice.ref is not None)
    assert notice.kind == "run" or notice.reason
    assert all(text.isprintable() for text in (notice.event_id, notice.event_type, notice.marker))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise(body: bytes) -> None:
    assert intake.parse(body, OURS).kind in {"refused", "ignored"}
