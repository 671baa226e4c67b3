"""Only the failed steps are read, with their own line numbers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests import findings
from tests.azdo.conftest import organisation, played, shop
from tests.sandbox.conftest import RUN, TIMELINE, TOKEN
from triage import azdo, logs
from triage.domain import Issue, RunRef, TimelineRecord
from triage.errors import Snooze

if TYPE_CHECKING:
    from triage.domain import Run

__all__ = ["organisation", "played", "shop"]


@pytest.fixture
def door(played: Any) -> azdo.Door:
    return azdo.connect(played.url, TOKEN)


def run(**changes: Any) -> Run:
    return replace(findings.run(), ref=RunRef("Shop", RUN), **changes)


def record(identity: str, kind: str, result: str, parent: str | None = None, **more: Any) -> TimelineRecord:
    return TimelineRecord(identity, parent, kind, identity, "completed", result, **more)


def names(*records: TimelineRecord) -> list[str]:
    return [each.name for each in logs.failed_records(records)]


def test_a_failed_task_speaks_for_its_job_phase_and_stage() -> None:
    assert names(
        record("stage", "Stage", "failed"),
        record("job", "Job", "failed", "stage"),
        record("good", "Task", "succeeded", "job"),
        record("bad", "Task", "failed", "job"),
    ) == ["bad"]


def test_a_job_without_a_failed_task_speaks_for_itself() -> None:
    assert names(
        record("stage", "Stage", "failed"),
        record("job", "Job", "failed", "stage"),
        record("good", "Task", "succeeded", "job"),
    ) == ["job"]


def test_a_failed_checkpoint_is_read() -> None:
    assert names(record("stage", "Stage", "failed"), record("check", "Checkpoint", "failed", "stage")) == [
        "check"
    ]


def test_a_step_that_may_fail_is_read_when_it_had_errors() -> None:
    error = (Issue("error", "broken"),)
    assert names(
        record("warned", "Task", "succeededWithIssues"),
        record("failed softly", "Task", "succeededWithIssues", issues=error),
    ) == ["failed softly"]


def test_a_circle_of_parents_ends() -> None:
    assert names(record("a", "Task", "failed", "b"), record("b", "Job", "failed", "a")) == ["a"]


def test_the_failed_steps_log_is_streamed(door: azdo.Door) -> None:
    (step,) = logs.fetch(door, run())
    assert (step.source, b"".join(step.open())) == ("log", b"one\r\ntwo\nthree\nfour\n")


def test_a_log_that_is_gone_leaves_the_timelines_errors(door: azdo.Door, shop: Any) -> None:
    del shop.logs[RUN][2]
    shop.timelines[RUN][TIMELINE]["records"][0]["issues"][0]["data"] = {"logFileLineNumber": "213"}
    (step,) = logs.fetch(door, run())
    assert b"".join(step.open()).split(b"\n")[212] == b"error 0"


def test_a_log_that_is_not_there_yet_is_waited_for(door: azdo.Door, shop: Any) -> None:
    del shop.logs[RUN][2]
    (step,) = logs.fetch(door, run(finished_at=datetime.now(UTC)))
    with pytest.raises(Snooze, match="not there yet"):
        b"".join(step.open())


def test_a_step_without_a_log_is_read_from_its_issues(door: azdo.Door, shop: Any) -> None:
    told = shop.timelines[RUN][TIMELINE]["records"][0]
    told["log"] = None
    told["issues"][0]["data"] = {"logFileLineNumber": "213"}
    (step,) = logs.fetch(door, run())
    assert step.source == "issue"
    assert step.line_numbers is not None
    assert step.line_numbers[0] == 213


def test_a_run_that_goes_on_is_waited_for(door: azdo.Door) -> None:
    with pytest.raises(Snooze, match="has not finished"):
        logs.fetch(door, run(status="inProgress"))


def test_a_run_that_succeeded_meanwhile_is_not_read(door: azdo.Door) -> None:
    assert logs.fetch(door, run(result="succeeded")) == []


def test_what_validation_said_is_read(door: azdo.Door, shop: Any) -> None:
    del shop.current_timeline[RUN]
    (step,) = logs.fetch(door, run(validation_errors=("The pipeline\nis not valid.",)))
    assert (step.source, b"".join(step.open())) == ("validation", b"The pipeline is not valid.")
