"""`python -m tests.promises.faults`: every bad answer at every call of the story, once and always.

`python -m tests.promises --only R5` counts the same; here a call or an answer can be chosen.

Once: the story ends as it does without a fault. Always: each job ends in a state that explains itself,
nothing wrong is written, and once the fault is over the story still ends as it should.
"""

# ruff: noqa: T201 - a report

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from tests.promises.lane import Tally
from tests.promises.stage import LIMITS, RUNS, Stage, Trial, stage
from triage import jobs
from triage.azdo import Limits
from triage.sandbox import faults

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.promises.lane import Lane

# Every call of the story: its method and what its path looks like.
CALLS = {
    "list of APIs": ("OPTIONS", r"_apis$"),
    "resource areas": ("GET", r"_apis/ResourceAreas$"),
    "run": ("GET", r"/builds/\d+$"),
    "timeline": ("GET", r"/timeline(/[^/]+)?$"),
    "log": ("GET", r"/logs/(?!1$)\d+$"),
    "expanded YAML": ("GET", r"/logs/1$"),
    "definition": ("GET", r"/definitions/\d+$"),
    "connections": ("GET", r"/serviceendpoint/endpoints$"),
    "execution history": ("GET", r"/executionhistory$"),
    "identity": ("GET", r"/identities$"),
    "tag": ("PUT", r"/tags/"),
    "search for work items": ("POST", r"/wiql$"),
    "types of work items": ("GET", r"/workitemtypes$"),
    "category of bugs": ("GET", r"/workitemtypecategories/"),
    "states": ("GET", r"/states$"),
    "create a work item": ("POST", r"/workitems/\$"),
    "read a work item": ("GET", r"/workitems/\d+$"),
    "change a work item": ("PATCH", r"/workitems/\d+$"),
    "threads": ("GET", r"/threads$"),
    "open a thread": ("POST", r"/threads$"),
    "change a comment": ("PATCH", r"/comments/\d+$"),
}
# What says, when it is said each time, that something is not there or not accepted: the story may then
# end differently for good, but still in one item, one thread and one tag for each run.
_FINAL = {"404", "400, no Markdown"}
# Text without a form: nothing tells that it is not the log.
_UNSEEN = {("log", "garbage"), ("expanded YAML", "garbage")}
_FIRST = {
    "list of APIs",
    "resource areas",
}  # only before everything else; the others fail at a run that matters
_TRIES_ONCE, _TRIES_ALWAYS = 8, 2
_IMPATIENT = replace(LIMITS, patience_seconds=0.3)  # to wait at each of many calls takes long
STALL_SECONDS = 15.0  # far above the shortened limits of every request of a job together


@dataclass(frozen=True)
class Result:
    """What came of one trial."""

    call: str
    answer: str
    always: bool
    stall: float  # the longest that a job was held
    problems: tuple[str, ...]
    met: bool  # whether the fault was met at all


def once(on: Stage, call: str, answer: str, wanted: dict[str, Any]) -> Result:
    """Let one call fail once; a retry later all is as without a fault."""
    with on.trial() as trial:
        if call not in _FIRST:
            trial.finish(0, _TRIES_ONCE)
        fault = faults.make(answer, *CALLS[call])
        trial.organisation.faults.append(fault)
        for index in range(RUNS):
            trial.finish(index, _TRIES_ONCE)
        problems = [*_unfinished(trial), *_unexplained(trial)]
        if (call, answer) not in _UNSEEN:
            problems += _different(trial.happened(), wanted)
        return Result(call, answer, False, _stall(trial), tuple(problems), fault.times == 0)


def always(on: Stage, call: str, answer: str, wanted: dict[str, Any]) -> Result:
    """Let one call fail each time, look at the state, then end the fault and look at the end."""
    with on.trial(_IMPATIENT) as trial:
        fault = faults.make(answer, *CALLS[call], always=True)
        before = fault.times
        trial.organisation.faults.append(fault)
        for index in range(RUNS):
            trial.finish(index, _TRIES_ALWAYS)
        met = fault.times < before
        problems = [*_unexplained(trial), *_wrong(trial.happened(), wanted)]
        stall = _stall(trial)
        fault.times = 0
        on.way_in.open()
        for index in range(RUNS):
            trial.finish(index, _TRIES_ONCE)
        problems += [*_unfinished(trial), *_wrong(trial.happened(), wanted)]
        if answer not in _FINAL and (call, answer) not in _UNSEEN:
            problems += _missing(trial.happened(), wanted)
        return Result(call, answer, True, stall, tuple(dict.fromkeys(problems)), met)


def baseline(on: Stage) -> dict[str, Any]:
    """Return what happens without a fault, however slow the machine is."""
    with on.trial(Limits()) as trial:
        for index in range(RUNS):
            for each in trial.finish(index, 1):
                assert each.state == jobs.State.COMPLETED, each
        return trial.happened()


def _unfinished(trial: Trial) -> list[str]:
    return [
        f"the job {each.job} is {each.state}: {each.error}"
        for each in trial.last()
        if each.state not in jobs.FINISHED
    ]


def _unexplained(trial: Trial) -> list[str]:
    """Every job has a sentence, none ended by an error that triage did not expect or was given up."""
    problems = []
    for each in trial.endings:
        told = each.outcome or each.error
        if not told or "see triage's log" in told or not re.search(r"[.;]$|\)$", told.strip()):
            problems.append(f"{each.state} is explained by {told!r}")
        if each.state in {jobs.State.DISCARDED, jobs.State.QUARANTINED, jobs.State.RUNNING}:
            problems.append(f"a job is {each.state}: {told}")
    return problems


def _different(happened: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [
        f"{what}: {happened[what]} instead of {wanted[what]}"
        for what in wanted
        if happened[what] != wanted[what]
    ]


def _wrong(happened: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return what is there although it should not be. Which run comes first may differ, so links may."""
    problems = [
        f"{len(happened[what])} {what}"
        for what in ("work items", "threads")
        if len(happened[what]) > len(wanted[what])
    ]
    problems += [
        f"run {number} is tagged {tags}"
        for number, tags in happened["tags"].items()
        if tags != wanted["tags"].get(number)
    ]
    (best,) = wanted["work items"]
    for item in happened["work items"]:
        problems += [f"title: {item['title']}"] if item["title"] != best["title"] else []
        links = [link for link in item["links"] if item["links"].count(link) > 1]
        problems += [f"links: {links}"] if links else []
        problems += [f"{item['comments']} comments"] if item["comments"] > RUNS else []
    problems += [f"{len(thread)} comments in a thread" for thread in happened["threads"] if len(thread) > 1]
    return problems


def _missing(happened: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return what is not there when all is over."""
    problems = [f"no {what}" for what in wanted if len(happened[what]) < len(wanted[what])]
    for item, best in zip(happened["work items"], wanted["work items"], strict=False):
        problems += [f"{key}: {item[key]}" for key in ("type", "owner") if item[key] != best[key]]
    return problems


def _stall(trial: Trial) -> float:
    return max(each.seconds for each in trial.endings)


CELLS = [(call, answer, forever) for answer in faults.ANSWERS for call in CALLS for forever in (False, True)]
LANES = 6


def check(lane: Lane, trials: int, offset: int) -> Tally:
    """R5: so many cells of the matrix; all of them, when every lane tries its share."""
    gc.enable()  # a lane has it off, and this one goes on for minutes
    shuffled = random.Random(5).sample(CELLS, len(CELLS))  # so that a part holds some of everything
    tally = Tally()
    for each in tried(shuffled[offset::LANES][:trials], lane.settings.database.url):
        tally.trials += 1
        when = f"{each.answer}, {'always' if each.always else 'once'}, at {each.call}"
        tally.violations += [f"{when}: {problem}" for problem in each.problems]
        tally.hold(each.met, f"{when}: the call was not made")
        tally.hold(each.stall <= STALL_SECONDS, f"{when}: held a job for {each.stall:.1f} s")
        tally.most("s a job was held (most)", round(each.stall, 1))
    return tally


def tried(cells: Iterable[tuple[str, str, bool]], database: str = "") -> list[Result]:
    """Try cells of the matrix on a stage of their own."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with stage(database) as on:
        wanted = baseline(on)
        return [(always if forever else once)(on, call, answer, wanted) for call, answer, forever in cells]


def main() -> int:
    """Try the whole matrix and print it. Returns 0 when every promise is kept."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument(
        "--jobs", type=int, default=max((os.cpu_count() or 2) - 1, 1), help="stages side by side"
    )
    asked.add_argument("--call", default="", help="only calls whose name holds this")
    asked.add_argument("--answer", default="", help="only answers whose name holds this")
    given = asked.parse_args()
    os.environ["TRIAGE_CONFIG"] = os.devnull
    cells = [cell for cell in CELLS if given.call in cell[0] and given.answer in cell[1]]
    if not cells:
        asked.error(
            f"no such call or answer; calls: {', '.join(CALLS)}; answers: {', '.join(faults.ANSWERS)}"
        )
    started = time.monotonic()
    size = 12
    results: list[Result] = []
    with ProcessPoolExecutor(given.jobs) as pool:
        for part in pool.map(tried, [cells[at : at + size] for at in range(0, len(cells), size)]):
            results += part
            for each in part:
                _tell(each)
            print(f"{len(results)} of {len(cells)} trials", file=sys.stderr)
    print(f"\n{'answer':<22}{'once':>12}{'always':>12}{'longest stall':>16}")
    for answer in dict.fromkeys(each.answer for each in results):
        of = [each for each in results if each.answer == answer]
        counts = [
            f"{sum(not r.problems for r in of if r.always is forever)} of {sum(r.always is forever for r in of)}"
            for forever in (False, True)
        ]
        print(f"{answer:<22}{counts[0]:>12}{counts[1]:>12}{max(r.stall for r in of):>14.1f} s")
    violations = sum(bool(each.problems) for each in results)
    longest = max(each.stall for each in results)
    print(
        f"\nR5 any answer is survived: {len(results)} trials, {violations} violations, longest stall "
        f"{longest:.1f} s with requests of at most {LIMITS.request_seconds} s; "
        f"{time.monotonic() - started:.0f} s in all."
    )
    return 1 if violations or not all(each.met for each in results) or longest > STALL_SECONDS else 0


def _tell(result: Result) -> None:
    """Print what is wrong with a trial, if anything is."""
    when = "always" if result.always else "once"
    for problem in result.problems or (() if result.met else ("the call was not made",)):
        print(f"{result.answer}, {when}, at {result.call}: {problem}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
