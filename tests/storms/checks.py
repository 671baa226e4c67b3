"""R8, R9, R11, R12 and R21: what triage promises under load, each as a function that tries it."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlmodel import Session, col, func, select

from tests.promises.lane import Tally
from tests.storms import stage
from tests.storms.stage import Played, Triage
from triage import db, jobs
from triage.db import FindingRow, Job
from triage.sandbox import wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy.engine import Engine

    from tests.promises.lane import Lane

REVISIONS_MAX = 20
CALLS_PER_RUN_MAX = 1.2
GROWTH_MAX = 64.0  # megabytes, of all processes of triage, from the second fifth of a time to the last
TURNS_MAX = 4  # of another project while one waits for its first: its own, and what the workers had begun
TRIES = 5  # of a job that takes its worker down
_FULL, _SECONDS = 5000, 60.0  # a storm
_RUNS, _FEW_RUNS = 25, 5  # of each secret, when there are many and when there are few
_NOISY = 50  # times as many runs as there are other secrets
_HEALTHY = 100  # runs beside those that take workers down
_JOB_SECONDS = 2
# As people run it: an incident's people hear after half a minute, and then every five.
_USUAL = {"POLICY__GROUP_WAIT_SECONDS": "30", "POLICY__GROUP_INTERVAL_SECONDS": "300"}
_QUICK = {"POLICY__GROUP_INTERVAL_SECONDS": "2"}
_HASTY = {"JOB_SECONDS_MAX": str(_JOB_SECONDS), "WORKER_MEMORY_MB": "512"}
_HASTIER = {**_HASTY, "STORM_CRASH_SECONDS": "0.2"}
_SLACK_SECONDS = 10.0  # a worker's start on a machine that is busy


@dataclass(frozen=True)
class Scene:
    """Where a promise is tried."""

    played: Played
    triage: Triage
    engine: Engine


@contextmanager
def scene(folder: Path, database_url: str, **settings: str) -> Iterator[Scene]:
    """Play an organisation and have triage ready, of which nothing runs yet."""
    folder.mkdir(exist_ok=True)
    played = Played()
    with stage.database(database_url) as engine:
        triage = Triage(played.url, database_url, folder, **settings)
        try:
            yield Scene(played, triage, engine)
        finally:
            triage.close()
            played.close()


@contextmanager
def _of_lane(lane: Lane, settings: dict[str, str]) -> Iterator[Scene]:
    """Set a scene on a lane's database, which holds nothing yet."""
    with (
        tempfile.TemporaryDirectory(prefix="triage-storm-") as folder,
        scene(Path(folder), lane.settings.database.url, **settings) as at,
    ):
        yield at


def storm(lane: Lane, trials: int, offset: int) -> Tally:
    """R8: runs fail of one secret, many a second: one work item, few requests, quick answers, flat memory."""
    tally, runs = Tally(trials=trials), trials
    is_full = runs >= _FULL
    with _of_lane(lane, _USUAL if is_full else _QUICK) as at:
        pipelines, pull_requests = (20, 10) if is_full else (2, 1)
        bodies = at.played.ask(stage.fail, "storm", runs, pipelines, pull_requests)
        at.triage.serve(workers=2)
        sent = stage.send(at.triage.port, bodies, seconds=_SECONDS * runs / _FULL)
        later = stage.drain(at.engine, patience=900)
        stage.drain(at.engine, patience=120, left=stage.soon)
        seen = at.played.ask(stage.seen, "storm")
        calls = at.played.ask(stage.calls)
        counts = stage.counted(at.engine)
        tally.hold(set(sent.statuses) == {202}, f"events were answered {dict(Counter(sent.statuses))}")
        tally.hold(seen.work_items == 1, f"{seen.work_items} work items")
        tally.hold(counts == [runs], f"counted {counts} runs, not {runs}")
        tally.hold(seen.revisions <= REVISIONS_MAX, f"{seen.revisions} revisions")
        tally.hold(seen.threads <= 1, f"{seen.threads} threads on a pull request")
        tally.violations += _unfinished(at.engine)
        # Before its incident is there, a pipeline's cause is read from a log; from then on it is known.
        per_run = sum(calls.values()) / runs
        tally.hold(per_run <= CALLS_PER_RUN_MAX or not is_full, f"{per_run:.2f} requests per run")
        growth = at.triage.memory.growth
        tally.hold(growth <= GROWTH_MAX, f"memory grew by {growth:.0f} MB")
        tally.figures = {
            "work items": seen.work_items,
            "runs counted": sum(counts),
            "revisions": seen.revisions,
            "requests per run": round(per_run, 2),
            "logs read": _read_whole(at.engine),
            "ms to the answer, half": _milliseconds(sent, 0.5),
            "ms to the answer, 99 %": _milliseconds(sent, 0.99),
            "sent again after 503": sent.again,
            "s from the last event until all are counted": round(later, 1),
            "MB of all processes (most)": round(max(at.triage.memory.samples, default=0)),
            "MB grown": round(growth),
        }
    return tally


def fair(lane: Lane, trials: int, offset: int) -> Tally:
    """R9: many secrets at once, behind a noisy project: nobody waits for more than one turn of each other."""
    runs, noisy = (_RUNS if trials >= _NOISY else _FEW_RUNS), _NOISY * trials
    tally = Tally(trials=trials)
    with _of_lane(lane, _USUAL if trials >= _NOISY else _QUICK) as at:
        loud = at.played.ask(stage.fail, "noisy", noisy, 5, 0)
        others = [at.played.ask(stage.fail, f"other-{number}", runs, 1, 0) for number in range(trials)]
        quiet = at.played.ask(stage.fail, "quiet", 1, 1, 0)
        at.triage.serve(workers=2)
        stage.send(at.triage.port, loud)
        told = [body for turn in zip(*others, strict=True) for body in turn]
        sent = stage.send(at.triage.port, [*told, *quiet])
        tally.hold(set(sent.statuses) == {202}, f"events were answered {dict(Counter(sent.statuses))}")
        noise = wire.guid("project", "noisy")
        all_told = db.now()
        seconds = stage.drain(at.engine, patience=3600, left=lambda engine: _left_but(engine, noise))
        # In each round every project has one turn, the noisy one too.
        had = _turns_until_others_end(at.engine, noise, all_told)
        tally.hold(had <= runs + 5, f"the noisy project had {had} turns, the others {runs}")
        first = wire.guid("project", "quiet")
        turns = _turns_meanwhile(at.engine, first)
        tally.hold(turns <= TURNS_MAX, f"another project had {turns} turns while the quiet one waited")
        waits = _first_waits(at.engine)
        waits.pop(noise, None)
        tally.figures = {
            "runs": trials * runs + noisy + 1,
            "s the quiet project waited": round(waits.pop(first), 1),
            "turns of another meanwhile (most)": turns,
            "s for a project's first run (most)": round(max(waits.values()), 1),
            "s until all but the noisy one's were done": round(seconds),
            "turns of the noisy one by then": had,
            "ms to the answer, 99 %": _milliseconds(sent, 0.99),
            "sent again after 503": sent.again,
        }
    return tally


def poison(lane: Lane, trials: int, offset: int) -> Tally:
    """R11: jobs that crash their worker or eat its memory are quarantined, and delay nobody."""
    return _poisoned(lane, [("grow", "crash", "exit")[number % 3] for number in range(trials)])


def hung(lane: Lane, trials: int, offset: int) -> Tally:
    """R12: jobs that hang are cut off after their time, then quarantined, and delay nobody."""
    return _poisoned(lane, ["hang"] * trials)


def _poisoned(lane: Lane, kinds: list[str]) -> Tally:
    tally = Tally(trials=len(kinds))
    is_full = len(kinds) > 3
    healthy = _HEALTHY if is_full else _HEALTHY // 5
    with _of_lane(lane, _HASTY if is_full else _HASTIER) as at:
        alone = at.played.ask(stage.fail, "alone", healthy, 1, 0)
        bad = at.played.ask(stage.fail, "poison", len(kinds), 1, 0)
        good = at.played.ask(stage.fail, "healthy", healthy, 1, 0)
        how = dict(zip((stage.run_of(body) for body in bad), kinds, strict=True))
        at.triage.poison(how)
        at.triage.serve(workers=2)
        stage.send(at.triage.port, alone)
        stage.drain(at.engine, patience=120)
        sent = stage.send(at.triage.port, [*bad, *good])
        tally.hold(set(sent.statuses) == {202}, f"events were answered {dict(Counter(sent.statuses))}")
        stage.drain(at.engine, patience=600)
        with Session(at.engine) as session:
            rows = session.exec(select(Job).where(Job.kind == jobs.Kind.BUILD)).all()
        ended = [(how[row.run_id], row.state, row.crashes) for row in rows if row.run_id in how]
        tally.violations += [
            f"{kind}: {state} after {crashes} tries"
            for kind, state, crashes in ended
            if (state, crashes) != (jobs.State.QUARANTINED, TRIES)
        ]
        bystanders = Counter((row.state, row.crashes) for row in rows if row.run_id not in how)
        tally.violations += [
            f"{count} others are {state} after {crashes} crashes"
            for (state, crashes), count in bystanders.items()
            if (state, crashes) != (jobs.State.COMPLETED, 0)
        ]
        tally.hold(set(stage.counted(at.engine)) == {healthy}, f"counted {stage.counted(at.engine)}")
        usual, longest, last = (
            max(
                (row.finished_at - row.created_at).total_seconds()
                for row in rows
                if row.finished_at and row.project == wire.guid("project", name)
            )
            for name in ("alone", "healthy", "poison")
        )
        # Each is tried a second time at once, and from then on behind the others.
        bound = usual + 2 * len(kinds) * (_JOB_SECONDS + _SLACK_SECONDS)
        tally.hold(longest <= bound, f"a healthy job waited {longest:.1f} s, {usual:.1f} s without these")
        tally.figures = {
            "tries (most)": max(crashes for _, _, crashes in ended),
            "s a healthy job waited (most)": round(longest, 1),
            "s without these (most)": round(usual, 1),
            "s until quarantine (most)": round(last, 1),
            "healthy jobs": healthy,
        }
    return tally


def pressure(lane: Lane, trials: int, offset: int) -> Tally:
    """R21: events come while no worker works: all are kept, memory stays flat; then they are worked off."""
    tally, count = Tally(trials=trials), trials
    with _of_lane(lane, _USUAL if count >= _FULL else _QUICK) as at:
        bodies = at.played.ask(stage.fail, "pressure", count, 5, 0)
        at.triage.receive()
        sent = stage.send(at.triage.port, bodies)
        kept = stage.runs_left(at.engine)
        growth = at.triage.memory.growth
        tally.hold(set(sent.statuses) == {202}, f"events were answered {dict(Counter(sent.statuses))}")
        tally.hold(kept == count, f"{kept} runs were kept of {count}")
        tally.hold(growth <= GROWTH_MAX, f"memory grew by {growth:.0f} MB")
        at.triage.work(workers=2)
        seconds = stage.drain(at.engine, patience=3600)
        tally.hold(stage.counted(at.engine) == [count], f"counted {stage.counted(at.engine)}")
        tally.violations += _unfinished(at.engine)
        tally.figures = {
            "events a second": round(count / sent.seconds),
            "ms to the answer, 99 %": _milliseconds(sent, 0.99),
            "sent again after 503": sent.again,
            "MB of the receiver (most)": round(at.triage.memory.largest),
            "MB grown": round(growth),
            "runs a second worked off": round(count / seconds, 1),
        }
    return tally


def scale(at: Scene, *, runs: int, processes: int) -> list[str]:
    """Several `triage work` on one database count each run once and file one work item: what is wrong."""
    tally = Tally()
    bodies = at.played.ask(stage.fail, "scale", runs, 5, 0)
    at.triage.receive()
    sent = stage.send(at.triage.port, bodies)
    tally.hold(set(sent.statuses) == {202}, f"events were answered {dict(Counter(sent.statuses))}")
    for _ in range(processes):
        at.triage.work(workers=1)
    stage.drain(at.engine, patience=600)
    stage.drain(at.engine, patience=120, left=stage.soon)
    seen = at.played.ask(stage.seen, "scale")
    tally.hold(seen.work_items == 1, f"{seen.work_items} work items")
    tally.hold(stage.counted(at.engine) == [runs], f"counted {stage.counted(at.engine)}")
    return [*tally.violations, *_unfinished(at.engine)]


def _milliseconds(sent: stage.Sent, part: float) -> int:
    return round(1000 * sent.percentile(part))


def _left_but(engine: Engine, project: str) -> int:
    """Return how many runs wait or are worked on, without those of a project."""
    with Session(engine) as session:
        query = select(func.count()).where(
            col(Job.finished_at).is_(None), Job.kind == jobs.Kind.BUILD, Job.project != project
        )
        return session.exec(query).one()


def _turns_meanwhile(engine: Engine, project: str) -> int:
    """Return how many runs of any one other project were done while a project's only one waited."""
    with Session(engine) as session:
        mine = session.exec(select(Job).where(Job.kind == jobs.Kind.BUILD, Job.project == project)).one()
        query = (
            select(func.count())
            .where(Job.kind == jobs.Kind.BUILD, Job.project != project)
            .where(col(Job.finished_at).between(mine.created_at, mine.finished_at))
            .group_by(col(Job.project))
        )
        return max(session.exec(query), default=0)


def _turns_until_others_end(engine: Engine, project: str, since: datetime) -> int:
    """Return how many runs of a project were done from a moment until the last of the others was."""
    with Session(engine) as session:
        others = select(func.max(Job.finished_at)).where(Job.kind == jobs.Kind.BUILD, Job.project != project)
        query = select(func.count()).where(
            Job.kind == jobs.Kind.BUILD,
            Job.project == project,
            col(Job.finished_at).between(since, session.exec(others).one()),
        )
        return session.exec(query).one()


def _first_waits(engine: Engine) -> dict[str, float]:
    """Return for each project after how many seconds its first run was triaged."""
    with Session(engine) as session:
        query = (
            select(Job.project, func.min(Job.created_at), func.min(Job.finished_at))
            .where(Job.kind == jobs.Kind.BUILD)
            .group_by(col(Job.project))
        )
        return {project: (done - told).total_seconds() for project, told, done in session.exec(query) if done}


def _unfinished(engine: Engine) -> list[str]:
    """Return the jobs of runs that did not end well."""
    with Session(engine) as session:
        states = session.exec(select(Job.state).where(Job.kind == jobs.Kind.BUILD)).all()
    bad = Counter(state for state in states if state != jobs.State.COMPLETED)
    return [f"{count} jobs are {state}" for state, count in bad.items()]


def _read_whole(engine: Engine) -> int:
    with Session(engine) as session:
        return len(session.exec(select(FindingRow.id).where(col(FindingRow.fingerprint) != "")).all())
