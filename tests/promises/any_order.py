"""R4: the order in which triage hears of what happened makes no difference to how it ends.

Hypothesis plays: runs start, stages and runs fail, are tried again, fail again or succeed, the credential
is renewed. All of it happens in two projects alike. In one triage is told at once and in order; in the
other any event at any time, some again and again, some long after the end. It works, sweeps and looks
whether all works again at the same moments in both. In the end both must look the same.

What triage reads is the present: a failure of which it hears only after the run has succeeded, or after
the credential was seen to work again, is one that it has never seen. Where that is so the runs concerned
are left out of the comparison, and what must be true in any case is asked instead.
"""

from __future__ import annotations

import copy
import json
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlmodel import Session, col, select, update

from tests.promises import lane as lanes
from tests.promises import played
from tests.promises.lane import Tally
from triage import azdo, jobs, mend, sweep, worker
from triage.db import Incident, Job
from triage.intake.deliveries import Keeper
from triage.sandbox import events, wire
from triage.sandbox.organisation import wire_time

if TYPE_CHECKING:
    from tests.promises.lane import Lane
    from triage.sandbox.organisation import Organisation

_RUNS_MAX = 4
_STEPS = 25  # of one story, at most
_MINUTE = timedelta(minutes=1)
_NEVER = datetime.max.replace(tzinfo=UTC)
_LONG_AGO = timedelta(hours=8)  # when the stories begin
_BROKEN, _RENEWED = "expired-credential", "credential-renewed"
_DEEDS = ("works", "sweeps", "looks whether all works again")
_ANY = st.integers(0, 11)  # which of what there is


def check(lane: Lane, trials: int, offset: int) -> Tally:
    """Try so many stories; the same ones each time."""
    tally = Tally()

    class Here(AnyOrder):
        stage = lane
        counted = tally

    chosen = hypothesis.settings(
        max_examples=trials,
        stateful_step_count=_STEPS,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],  # to shrink a story takes minutes
        verbosity=hypothesis.Verbosity.quiet,
    )
    try:
        run_state_machine_as_test(hypothesis.seed(offset)(Here), settings=chosen)
    except AssertionError as violation:
        tally.violations.append(str(violation))
    return tally


@dataclass
class _Run:
    """One run, which is there in both projects."""

    pipeline: int
    state: str = "inProgress"  # or its result
    failures: int = 0  # attempts that failed
    began: datetime = _NEVER  # its last attempt
    ended: datetime = _NEVER


@dataclass
class _Project:
    """What one of the two projects was told of, and when it could have known of which failure."""

    name: str
    id: str = ""
    numbers: list[int] = field(default_factory=list)  # its runs, in the order of _Run
    waiting: set[tuple[int, str]] = field(default_factory=set)  # run and marker: told, and not worked on
    done: set[tuple[int, str]] = field(default_factory=set)
    seen: dict[tuple[int, int], int] = field(default_factory=dict)  # by run and failure: renewals before


@dataclass(frozen=True)
class _Event:
    """What Azure DevOps tells of a run."""

    run: int
    what: str
    marker: str  # "" for what tells of no failure
    body: bytes  # of the project that is told in any order


class AnyOrder(RuleBasedStateMachine):
    """One story after the other, in two new projects each."""

    stage: ClassVar[Lane]
    counted: ClassVar[Tally]

    def __init__(self) -> None:
        super().__init__()
        self.stage.projects += 1
        names = [f"{self.stage.name}-{self.stage.projects}-{how}" for how in ("any", "order")]
        self.any, self.order = [_Project(name) for name in names]
        for project in (self.any, self.order):
            project.id = self.stage.played.ask(_set_up, project.name)
        self.now = datetime.now(UTC).replace(microsecond=0) - _LONG_AGO
        self.runs: list[_Run] = []
        self.kept_back: list[_Event] = []
        self.told: list[_Event] = []
        self.renewals = 0
        self.story: list[str] = []
        self.new_to = dict.fromkeys(_DEEDS, False)  # what has come up since triage did it last

    # What happens.

    @initialize(pipeline=st.integers(0, 2))
    def the_first_run_starts(self, pipeline: int) -> None:
        self._start(pipeline)

    @precondition(lambda self: len(self.runs) < _RUNS_MAX)
    @rule(pipeline=st.integers(0, 2))
    def a_run_starts(self, pipeline: int) -> None:
        self._start(pipeline)

    @precondition(lambda self: self._are("inProgress"))
    @rule(which=_ANY)
    def a_stage_fails(self, which: int) -> None:
        run = self._one("inProgress", which)
        attempt = self.runs[run].failures + 1
        self._tell(run, "a stage failed", f"stage:Build:{attempt}", events_of=(_stage_failed, attempt))

    @precondition(lambda self: self._are("inProgress"))
    @rule(which=_ANY)
    def a_run_fails(self, which: int) -> None:
        self._end(self._one("inProgress", which), "failed")

    @precondition(lambda self: self._are("failed"))
    @rule(which=_ANY)
    def a_retry_is_begun(self, which: int) -> None:
        run = self._one("failed", which)
        self._pass_time()
        self.runs[run].state, self.runs[run].began = "inProgress", self.now
        self._happen(_begin, run, self.now)
        self._tell(run, "tried again", "", events_of=(_going_on,))

    @precondition(lambda self: self._are("inProgress"))
    @rule(which=_ANY)
    def a_run_succeeds(self, which: int) -> None:
        self._end(self._one("inProgress", which), "succeeded")

    @precondition(lambda self: self._are("failed"))
    @rule(pipeline=st.integers(0, 1))
    def the_credential_is_renewed_and_a_run_passes(self, pipeline: int) -> None:
        self._pass_time()
        for project in (self.any, self.order):
            self.stage.played.ask(_renew, project.id, self.now)
        self._end(self._start(pipeline), "succeeded")

    # What triage hears, in the project that is told in any order.

    @precondition(lambda self: self.kept_back)
    @rule(which=_ANY)
    def an_event_comes(self, which: int) -> None:
        self._deliver(self.kept_back.pop(which % len(self.kept_back)))

    @precondition(lambda self: self.told)
    @rule(which=_ANY)
    def the_same_event_comes_again(self, which: int) -> None:
        self._deliver(self.told[which % len(self.told)])

    # What triage does, in both.

    @precondition(lambda self: self.new_to["works"])
    @rule()
    def work_goes_on(self) -> None:
        self._do("works")
        self._work()

    @precondition(lambda self: self.new_to["sweeps"])
    @rule()
    def the_sweep_runs(self) -> None:
        self._do("sweeps")
        self.new_to["works"] = True
        door = self._door()
        since = self.now - _LONG_AGO
        names = [project.name for project in (self.any, self.order)]
        sweep.sweep(door, self.stage.engine, since=since, first=_LONG_AGO, grace=timedelta(0), only=names)
        for project in (self.any, self.order):
            for run, known in enumerate(self.runs):
                if known.state == "failed":
                    self._queue(project, run, _marker(known.ended))

    @precondition(lambda self: self.new_to["looks whether all works again"])
    @rule()
    def triage_looks_whether_all_works_again(self) -> None:
        self._do("looks whether all works again")
        self._mend()

    def teardown(self) -> None:
        """Let everything end and be told and worked on, then compare."""
        self.story.append("the end")
        for run, known in enumerate(self.runs):
            if known.state == "inProgress":
                self._end(run, "failed")
        while self.kept_back:
            self._deliver(self.kept_back.pop())
        self._work()
        self._mend()
        self._work()
        self.counted.trials += 1
        problems = self._compared()
        self._forget()
        assert not problems, f"{'; '.join(problems)} | {' – '.join(self.story)}"

    def _are(self, state: str) -> list[int]:
        return [number for number, run in enumerate(self.runs) if run.state == state]

    def _one(self, state: str, which: int) -> int:
        there = self._are(state)
        return there[which % len(there)]

    def _pass_time(self) -> None:
        self.now += 2 * _MINUTE
        self.new_to = dict.fromkeys(_DEEDS, True)

    def _do(self, deed: str) -> None:
        self.story.append(f"triage {deed}")
        self.new_to[deed] = False

    def _start(self, pipeline: int) -> int:
        self._pass_time()
        self.runs.append(_Run(pipeline, began=self.now))
        for project in (self.any, self.order):
            project.numbers.append(self.stage.played.ask(_start, project.id, pipeline, self.now))
        run = len(self.runs) - 1
        self._tell(run, f"started, of pipeline {pipeline}", "", events_of=(_going_on,))
        return run

    def _end(self, run: int, result: str) -> None:
        self._pass_time()
        known = self.runs[run]
        known.state, known.ended = result, self.now
        known.failures += result == "failed"
        self._happen(_end, run, result, known.began, self.now)
        self._tell(run, result, _marker(self.now) if result == "failed" else "", events_of=(_completed,))

    def _happen(self, deed: Any, run: int, *arguments: Any) -> None:
        for project in (self.any, self.order):
            self.stage.played.ask(deed, project.id, project.numbers[run], *arguments)

    def _tell(self, run: int, what: str, marker: str, *, events_of: tuple[Any, ...]) -> None:
        """Have an event told: in order at once, in the other project when Hypothesis says so."""
        render, *more = events_of
        bodies = [
            self.stage.played.ask(render, project.id, project.numbers[run], *more)
            for project in (self.any, self.order)
        ]
        self.story.append(f"run {run} {what}")
        event = _Event(run, what, marker, bodies[0])
        self.kept_back.append(event)
        self._take(self.order, event, bodies[1])

    def _deliver(self, event: _Event) -> None:
        self.story.append(f"heard: run {event.run} {event.what}")
        self.told.append(event)
        self.counted.count("events told")
        self.new_to["works"] = True
        self._take(self.any, event, event.body)

    def _take(self, project: _Project, event: _Event, body: bytes) -> None:
        Keeper(self.stage.engine).store(body, self.stage.settings.azure_devops.url)
        if event.marker:
            self._queue(project, event.run, event.marker)

    def _queue(self, project: _Project, run: int, marker: str) -> None:
        if (run, marker) not in project.done:
            project.waiting.add((run, marker))

    def _work(self) -> None:
        lanes.hasten(self.stage, merge=False)
        mate = self._worker()
        door = self._door()
        while (job := jobs.claim(self.stage.engine, mate.id)) is not None:
            mate.handle(door, job)
        for project in (self.any, self.order):
            for run, marker in list(project.waiting):
                known = self.runs[run]
                if known.state == "inProgress":
                    continue  # looked at again later
                project.waiting.remove((run, marker))
                project.done.add((run, marker))
                if known.state == "failed":
                    project.seen.setdefault((run, known.failures), self.renewals)

    def _mend(self) -> None:
        self.renewals += self._works_again()
        mend.round_of(self._door(), self.stage.engine, self.stage.knowledge.policy, Job(key="", lease="a"))

    def _forget(self) -> None:
        """Leave nothing that triage would look at in the next story."""
        with Session(self.stage.engine) as session, session.begin():
            mine = col(Incident.project_id).in_([self.any.id, self.order.id])
            session.exec(update(Incident).where(mine).values(state="closed"))

    def _works_again(self) -> bool:
        """Return whether a run began after the last failure and succeeded."""
        failed = max((run.ended for run in self.runs if run.state == "failed"), default=None)
        if failed is None:
            return bool(self.runs)
        return any(run.began > failed for run in self.runs if run.state == "succeeded")

    def _worker(self) -> worker.Worker:
        # What is remembered of connections is as old as the clock says, and a story takes hours of its own.
        known = replace(self.stage.knowledge, memory=azdo.Memory())
        lane = self.stage
        return worker.Worker(lane.settings, lane.engine, known, threading.Event(), name=lane.worker())

    def _door(self) -> azdo.Door:
        return azdo.connect(self.stage.settings.azure_devops.url, played.TOKEN)

    def _compared(self) -> list[str]:
        """Return how the two projects differ, or what must not be whatever was heard when."""
        same = {
            run
            for run in range(len(self.runs))
            if _of_run(self.any.seen, run) == _of_run(self.order.seen, run)
        }
        looks = [self._look(project, same) for project in (self.any, self.order)]
        problems = []
        if len(same) == len(self.runs):
            self.counted.count("compared whole")
        else:
            self.counted.count("compared by what stays")
            looks = [{what: look[what] for what in ("open", "tags")} for look in looks]
        problems += [
            f"{what}: {looks[0][what]}, in order {looks[1][what]}"
            for what in looks[0]
            if looks[0][what] != looks[1][what]
        ]
        for project in (self.any, self.order):
            problems += [f"{project.name}: {each}" for each in self._wrong(project)]
        return problems

    def _look(self, project: _Project, runs: set[int]) -> dict[str, Any]:
        """Return what people see of a project, by the numbers that both projects share."""
        seen: played.Seen = self.stage.played.ask(played.history, project.id)
        threads = self.stage.played.ask(_threads, project.id)
        pipelines = {number: self.runs[run].pipeline for run, number in enumerate(project.numbers)}
        with Session(self.stage.engine) as session:
            query = select(Incident).where(Incident.project_id == project.id).order_by(col(Incident.id))
            incidents = [(row.state, row.run_count) for row in session.exec(query)]
        return {
            "open": len(seen.open),
            "tags": {run: seen.tags.get(project.numbers[run], []) for run in sorted(runs)},
            "work items": [
                {
                    "type": item["System.WorkItemType"],
                    "state": item["System.State"],
                    "title": item["System.Title"].replace(project.name, "…"),
                    "tags": [tag for tag in item["System.Tags"].split("; ") if not tag.startswith("triage-")],
                    "pipelines": sorted({pipelines[run] for run in seen.linked[number]}),
                }
                for number, item in sorted(seen.items.items())
            ],
            "threads": [text.replace(project.name, "…") for text in threads],
            "incidents": incidents,
        }

    def _wrong(self, project: _Project) -> list[str]:
        """Return what must not be, by what has happened alone."""
        seen: played.Seen = self.stage.played.ask(played.history, project.id)
        failed = [run for run, known in enumerate(self.runs) if known.state == "failed"]
        broken = bool(failed) and not self._works_again()
        problems = []
        if len(seen.open) != broken:
            problems.append(
                f"{len(seen.open)} open work items, and the credential is {'broken' if broken else 'good'}"
            )
        tags = {run: seen.tags.get(project.numbers[run], []) for run in range(len(self.runs))}
        if broken and (missed := [run for run in failed if self._is_news(run) and tags[run] != [_BROKEN]]):
            problems.append(f"runs {missed} failed and are tagged {[tags[run] for run in missed]}")
        if not broken and (left := [run for run, said in tags.items() if _BROKEN in said]):
            problems.append(f"runs {left} are still tagged {_BROKEN}")
        for number, comments in seen.comments.items():
            twice = [text for text, times in Counter(comments).items() if times > 1]
            problems += [f"work item {number} was told twice: {text}" for text in twice]
        if seen.threads > 1:
            problems.append(f"{seen.threads} threads on one pull request")
        return problems

    def _is_news(self, run: int) -> bool:
        """Return whether nothing has worked since a run failed."""
        failed = self.runs[run].ended
        return not any(known.began > failed for known in self.runs if known.state == "succeeded")


def _of_run(seen: dict[tuple[int, int], int], run: int) -> dict[int, int]:
    return {failure: renewals for (number, failure), renewals in seen.items() if number == run}


def _marker(ended: datetime) -> str:
    return str(int(ended.timestamp()))


# What is done over there, in the process of the organisation.

_templates: dict[str, list[dict[str, Any]]] = {}  # builds of each project, one for each pipeline


def _set_up(organisation: Organisation, name: str) -> str:
    """Add a project of two pipelines and the check of a pull request, of which no run is there yet."""
    sent = played.fail(organisation, name, 2, 1)
    project = organisation.projects[sent.project]
    _templates[project.id] = [project.builds.pop(number) for number in sorted(project.builds)]
    project.uses.clear()
    return project.id


def _start(organisation: Organisation, project_id: str, pipeline: int, at: datetime) -> int:
    project = organisation.projects[project_id]
    template = _templates[project_id][pipeline]
    same, number = template["id"], organisation.next_id()
    text = json.dumps(template).replace(f"/{same}/", f"/{number}/").replace(f'={same}"', f'={number}"')
    project.builds[number] = {**json.loads(text), "id": number, "tags": []}
    for kept in (project.timelines, project.current_timeline, project.logs):
        kept[number] = kept[same]  # type: ignore[assignment]
    project.builds[number]["startTime"] = wire_time(at)
    _begin(organisation, project_id, number, at)
    return number


def _begin(organisation: Organisation, project_id: str, number: int, at: datetime) -> None:
    build = organisation.projects[project_id].builds[number]
    build["status"] = "inProgress"
    for of_the_end in ("result", "finishTime"):
        build.pop(of_the_end, None)


def _end(
    organisation: Organisation, project_id: str, number: int, result: str, began: datetime, ended: datetime
) -> None:
    """End a run, which has used the connection since it began."""
    project = organisation.projects[project_id]
    build = project.builds[number]
    build |= {"status": "completed", "result": result, "finishTime": wire_time(ended)}
    (connection,) = project.endpoints
    uses = project.uses.setdefault(connection, [])
    used = wire.use(build, number=100 + len(uses), result=result, base_url=organisation.url)
    uses.insert(0, {**used, "startTime": wire_time(began)})


def _renew(organisation: Organisation, project_id: str, at: datetime) -> None:
    (connection,) = organisation.projects[project_id].endpoints.values()
    connection["modificationDate"] = wire_time(at)


def _threads(organisation: Organisation, project_id: str) -> list[str]:
    kept = organisation.projects[project_id].threads.values()
    return [f"{thread['status']}: {len(thread['comments'])}" for each in kept for thread in each]


def _completed(organisation: Organisation, project_id: str, number: int) -> bytes:
    project = organisation.projects[project_id]
    build = copy.deepcopy(project.builds[number])
    return json.dumps(events.render("build.complete", build, organisation.url, project)).encode()


def _going_on(organisation: Organisation, project_id: str, number: int) -> bytes:
    return json.dumps(_of_the_run(organisation, project_id, number, "run")).encode()


def _stage_failed(organisation: Organisation, project_id: str, number: int, attempt: int) -> bytes:
    event = _of_the_run(organisation, project_id, number, "stage")
    event["resource"]["stage"] |= {"name": "Build", "attempt": attempt, "result": "failed"}
    return json.dumps(event).encode()


def _of_the_run(organisation: Organisation, project_id: str, number: int, level: str) -> dict[str, Any]:
    """Return an event of a run that goes on."""
    project = organisation.projects[project_id]
    ended = {**project.builds[number], "result": "failed", "finishTime": wire_time()}
    event = events.render(f"{level}-state-changed", ended, organisation.url, project)
    run = event["resource"]["run"]
    run["state"] = "inProgress"
    for of_the_end in ("result", "finishedDate"):
        del run[of_the_end]
    return event
