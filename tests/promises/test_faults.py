"""Bad answers are survived: a part of the matrix that `python -m tests.promises` tries whole."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from tests.promises import faults as matrix
from tests.promises.stage import LIMITS, RUNS, Stage, stage
from triage import jobs
from triage.azdo import Limits
from triage.errors import RetryLater
from triage.sandbox import faults
from triage.sandbox.organisation import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

_CALLS = tuple(matrix.CALLS)
# Every answer once and every call always; which goes with which is fixed, so that a failure stays one.
ONCE = list(zip(cycle(_CALLS), faults.ANSWERS, strict=False))
ALWAYS = list(zip(_CALLS, cycle(a for a in faults.ANSWERS if not a.startswith("429")), strict=False))


@pytest.fixture(scope="module")
def on() -> Iterator[Stage]:
    with stage() as made:
        yield made


@pytest.fixture(scope="module")
def wanted(on: Stage) -> dict[str, Any]:
    return matrix.baseline(on)


def test_the_story_uses_every_call_and_leaves_one_of_each(on: Stage, wanted: dict[str, Any]) -> None:
    with on.trial(Limits()) as trial:
        met = [Fault(*matrix.CALLS[call]) for call in _CALLS]  # does nothing but count
        trial.organisation.faults += met
        for index in range(RUNS):
            trial.finish(index, 1)
        assert [call for call, fault in zip(_CALLS, met, strict=True) if fault.times] == []
        assert trial.happened() == wanted
    (item,) = wanted["work items"]
    assert (item["type"], item["comments"], len(wanted["threads"])) == ("Bug", 3, 1)


@pytest.mark.parametrize(("call", "answer"), ONCE)
def test_a_bad_answer_once_costs_a_retry_and_nothing_else(
    on: Stage, wanted: dict[str, Any], call: str, answer: str
) -> None:
    result = matrix.once(on, call, answer, wanted)
    assert (result.problems, result.met) == ((), True)
    assert result.stall < matrix.STALL_SECONDS


@pytest.mark.parametrize(("call", "answer"), ALWAYS)
def test_a_bad_answer_each_time_does_no_harm_and_is_explained(
    on: Stage, wanted: dict[str, Any], call: str, answer: str
) -> None:
    result = matrix.always(on, call, answer, wanted)
    assert (result.problems, result.met) == ((), True)
    assert result.stall < matrix.STALL_SECONDS


@pytest.mark.parametrize("answer", ["500", "401", "reset"])
def test_an_outage_however_long_gives_no_run_up(on: Stage, wanted: dict[str, Any], answer: str) -> None:
    with on.trial(replace(LIMITS, outage_seconds_max=0.05)) as trial:
        down = [faults.make(answer, method, "", always=True) for method in ("OPTIONS", "GET", "POST", "PUT")]
        trial.organisation.faults += down
        for _ in range(jobs.MAX_ATTEMPTS + 5):
            trial.finish(1, 1)
            time.sleep(trial.door.gate.closed_for()[0])
        (ending,) = trial.last()
        assert ending.state == jobs.State.RETRYABLE
        # A machine that dozes longer than a pause lasts counts one more; in earnest it lasts minutes.
        assert ending.attempts < jobs.MAX_ATTEMPTS // 2
        for fault in down:
            fault.times = 0
        for index in range(RUNS):
            trial.finish(index, 3)
        assert trial.happened() == wanted


def test_a_run_of_its_own_that_always_fails_is_given_up(on: Stage) -> None:
    with on.trial() as trial:
        trial.organisation.faults.append(faults.make("500", *matrix.CALLS["log"], always=True))
        for _ in range(jobs.MAX_ATTEMPTS):
            trial.finish(1, 1)
        (ending,) = trial.last()
        assert ending.state == jobs.State.DISCARDED


@pytest.mark.parametrize("answer", ["hangs", "a byte a second"])
def test_a_call_that_hangs_is_cut(on: Stage, answer: str) -> None:
    with on.trial(Limits(request_seconds=2, log_seconds=2)) as trial:
        ref = trial.reference(1)
        trial.door.run(ref)
        for call in ("run", "log"):
            trial.organisation.faults.append(faults.make(answer, *matrix.CALLS[call]))
        started = time.monotonic()
        with pytest.raises(RetryLater, match="longer than 2 s"):
            trial.door.run(ref)
        log = next(r.log_id for r in trial.door.timeline(ref) if r.task and r.log_id)
        with pytest.raises(RetryLater, match="longer than 2 s"):
            list(trial.door.log_chunks(ref, log))
        assert time.monotonic() - started < 20


def test_the_requests_of_one_act_share_a_time(on: Stage) -> None:
    with on.trial(Limits()) as trial:
        ref = trial.reference(1)
        trial.door.run(ref)
        trial.organisation.faults.append(faults.make("hangs", *matrix.CALLS["run"]))
        started = time.monotonic()
        with trial.door.within(0.5):
            with pytest.raises(RetryLater, match="longer than"):
                trial.door.run(ref)
            with pytest.raises(RetryLater, match="no time left"):
                trial.door.run(ref)
        assert time.monotonic() - started < 20
        assert trial.door.run(ref).number


def test_a_log_of_a_gigabyte_in_a_megabyte_is_cut(on: Stage) -> None:
    with on.trial() as trial:
        ref = trial.reference(1)
        trial.organisation.faults.append(faults.make("gzip bomb", "GET", r"/logs/1$"))
        assert trial.door.expanded_yaml(ref) is None
