"""How the door waits: when it is refused, when it is delayed, before it is refused, and not too long."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.conftest import ENDPOINT, RUN, TOKEN
from triage import azdo
from triage.domain import RunRef
from triage.errors import Cancel, RetryLater, Snooze
from triage.sandbox.organisation import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from triage.sandbox.organisation import Organisation, Project
    from triage.sandbox.server import Played

REF = RunRef("Shop", RUN)
AGO = datetime.now(UTC) - timedelta(days=1)
TITLE = [{"op": "add", "path": "/fields/System.Title", "value": "t"}]


@pytest.fixture
def door(played: Played) -> azdo.Door:
    made = azdo.connect(played.url, TOKEN, limits=azdo.Limits(patience_seconds=5, again_seconds=0.01))
    made.run(REF)
    return made


def closed(door: azdo.Door) -> float:
    return door.gate.closed_for()[0]


def test_a_refused_request_is_sent_again_when_its_time_has_come(
    door: azdo.Door, organisation: Organisation, shop: Project
) -> None:
    organisation.faults.append(Fault("POST", r"workitems/\$", status=429, headers={"Retry-After": "1"}))
    started = time.monotonic()
    door.create_work_item(shop.id, "Bug", TITLE)
    assert time.monotonic() - started >= 1
    assert len(shop.work_items) == 1


@pytest.mark.parametrize("clock", [0, 3600, -3600])
def test_a_date_counts_by_the_servers_own_clock(
    door: azdo.Door, organisation: Organisation, clock: int
) -> None:
    at = time.time() + clock
    told = {"Retry-After": formatdate(at + 40, usegmt=True), "Date": formatdate(at, usegmt=True)}
    organisation.faults.append(Fault("GET", "builds/42$", status=429, headers=told))
    with pytest.raises(Snooze, match="asks for patience") as asked:
        door.run(REF)
    assert asked.value.seconds == pytest.approx(40, abs=2)


@pytest.mark.parametrize("told", ["", "soon", "nan", "-5"])
def test_a_refusal_that_says_nothing_of_use_is_obeyed_too(
    played: Played, organisation: Organisation, told: str
) -> None:
    door = azdo.connect(played.url, TOKEN, limits=azdo.Limits(patience_seconds=0))
    door.run(REF)
    organisation.faults.append(Fault("GET", "builds/42$", status=429, headers={"Retry-After": told}))
    with pytest.raises(Snooze) as asked:
        door.run(REF)
    assert asked.value.seconds == pytest.approx(1 if told == "-5" else 30, abs=1)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "12"}, 12),
        ({"Retry-After": "900"}, 30),
        ({"X-RateLimit-Delay": "4.5"}, 4.5),
        ({"X-RateLimit-Limit": "200", "X-RateLimit-Remaining": "19"}, 5),
        ({"X-RateLimit-Limit": "200", "X-RateLimit-Remaining": "19", "X-RateLimit-Reset": "1"}, 0),
        ({"X-RateLimit-Limit": "200", "X-RateLimit-Remaining": "150", "X-RateLimit-Reset": "1"}, 0),
        ({"X-RateLimit-Limit": "many", "X-RateLimit-Remaining": "", "X-RateLimit-Delay": "inf"}, 0),
        ({}, 0),
    ],
)
def test_an_answer_that_asks_to_slow_down_is_obeyed(
    door: azdo.Door, organisation: Organisation, headers: dict[str, str], seconds: float
) -> None:
    organisation.faults.append(Fault("GET", "builds/42$", more_headers=headers))
    assert door.run(REF).number
    assert closed(door) == pytest.approx(seconds, abs=1)


def test_what_is_missing_once_is_asked_for_again(door: azdo.Door, organisation: Organisation) -> None:
    organisation.faults.append(Fault("GET", "builds/42$", status=404))
    assert door.run(REF).number
    organisation.faults.append(Fault("GET", "builds/42$", status=404, times=2))
    with pytest.raises(Cancel, match="does not exist"):
        door.run(REF)


def test_several_failures_in_a_row_close_the_gate_for_longer_and_longer(
    door: azdo.Door, organisation: Organisation
) -> None:
    limits = azdo.Limits()
    organisation.faults.append(Fault("GET", "builds/42$", status=500, times=2))
    for _ in range(2):
        with pytest.raises(RetryLater, match=r"status\.dev\.azure\.com"):
            door.run(REF)
    assert closed(door) == 0
    door.run(REF)  # one success, and the count begins anew
    organisation.faults.append(Fault("GET", "builds/42$", status=500, times=limits.outage_failures))
    for _ in range(limits.outage_failures):
        with pytest.raises(RetryLater):
            door.run(REF)
    assert closed(door) == pytest.approx(limits.outage_seconds, abs=1)


@pytest.mark.parametrize(
    "body",
    [b"[]", b"null", b'{"value":null}', b'{"value":[1]}', b'{"value":{}}', b'{"count":0,"value":[]}'],
)
def test_a_broken_list_of_apis_is_not_kept(played: Played, organisation: Organisation, body: bytes) -> None:
    organisation.faults.append(Fault("OPTIONS", "_apis$", replaced=body))
    door = azdo.connect(played.url, TOKEN)
    with pytest.raises(RetryLater):
        door.run(REF)
    assert door.run(REF).number


@pytest.mark.parametrize("body", [b"[]", b"7", b'{"value":"x"}', b'{"value":[{"id":"x"}]}', b"{}"])
def test_broken_resource_areas_are_not_kept(played: Played, organisation: Organisation, body: bytes) -> None:
    organisation.faults.append(Fault("GET", "ResourceAreas$", replaced=body))
    door = azdo.connect(played.url, TOKEN)
    with pytest.raises(RetryLater, match="does not understand"):
        door.run(REF)
    assert door.run(REF).number


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"value":"x"}', b'{"value":["x"]}', b"null"])
def test_an_answer_of_another_type_never_means_none(
    door: azdo.Door, organisation: Organisation, shop: Project, body: bytes
) -> None:
    calls: dict[str, Callable[[], object]] = {
        r"/endpoints$": lambda: door.connections(shop.id),
        r"/executionhistory$": lambda: door.execution_history(shop.id, ENDPOINT),
        r"/builds$": lambda: list(door.failed_runs(shop.id, AGO, AGO)),
        r"/Builds$": lambda: door.runs(shop.id, [RUN]),
        r"/projects$": door.projects,
        r"/logs$": lambda: door.log_sizes(REF),
        r"/identities$": lambda: door.identity(ENDPOINT),
        r"/wiql$": lambda: door.find_work_items(shop.id, "triage-00aa"),
        r"/states$": lambda: door.work_item_states(shop.id, "Bug"),
        r"/workitemtypes$": lambda: door.work_item_types(shop.id),
        r"categories/": lambda: door.bug_category(shop.id),
        r"/definitions/": lambda: door.definition(shop.id, 7, None),
        r"/tags/": lambda: door.add_tag(REF, "expired-credential"),
    }
    for path, call in calls.items():
        method = {"/wiql$": "POST", "/tags/": "PUT"}.get(path, "GET")
        organisation.faults.append(Fault(method, path, replaced=body))
        with pytest.raises(RetryLater, match=r"\.$"):
            call()
        assert organisation.faults.pop().times == 0


def test_an_endless_history_is_read_only_so_far(
    door: azdo.Door, organisation: Organisation, shop: Project
) -> None:
    again = Fault("GET", "executionhistory$", times=1000, more_headers={"X-MS-ContinuationToken": "1"})
    organisation.faults.append(again)
    door.execution_history(shop.id, ENDPOINT, top=2, pages=4)
    assert again.times == 996


def test_an_answer_that_would_not_fit_is_not_read_to_its_end(
    played: Played, organisation: Organisation
) -> None:
    door = azdo.connect(played.url, TOKEN, limits=azdo.Limits(answer_bytes=100_000))
    door.run(REF)
    organisation.faults.append(Fault("GET", "builds/42$", replaced=b" " * 200_000))
    with pytest.raises(RetryLater, match="larger than"):
        door.run(REF)
    assert door.run(REF).number
