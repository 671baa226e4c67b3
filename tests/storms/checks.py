"""Each promise under load as a function that tries it and counts violations."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlmodel import Session, col, select

from tests.storms import stage
from tests.storms.stage import Played, Triage
from triage import jobs
from triage.db import FindingRow, Job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

REVISIONS_MAX = 20
CALLS_PER_RUN_MAX = 1.2
ANSWER_SECONDS_MAX = 0.25  # of 99 in 100 events, on a quiet machine
GROWTH_MAX = 64.0  # megabytes, of all processes of triage, from the second fifth of a time to the last


@dataclass
class Result:
    """What came of a promise."""

    promise: str
    trials: int = 0
    violations: list[str] = field(default_factory=list)
    figures: dict[str, float | str] = field(default_factory=dict)

    def hold(self, true: bool, violation: str) -> None:  # noqa: FBT001 - reads as a sentence
        """Count a violation unless something is true."""
        if not true:
            self.violations.append(violation)


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


def storm(
    at: Scene, *, runs: int = 5000, seconds: float = 60.0, pipelines: int = 20, pull_requests: int = 10
) -> Result:
    """R8: runs fail of one secret, many a second: one work item, few requests, quick answers, flat memory."""
    result = Result("R8", trials=runs)
    bodies = at.played.ask(stage.fail, "storm", runs, pipelines, pull_requests)
    at.triage.serve(workers=2)
    sent = stage.send(at.triage.port, bodies, seconds=seconds)
    later = stage.drain(at.engine, patience=900)
    stage.drain(at.engine, patience=120, left=stage.soon)
    seen = at.played.ask(stage.seen, "storm")
    calls = at.played.ask(stage.calls)
    counts = stage.counted(at.engine)
    result.hold(set(sent.statuses) == {202}, f"events were answered {dict(Counter(sent.statuses))}")
    result.hold(seen.work_items == 1, f"{seen.work_items} work items")
    result.hold(counts == [runs], f"counted {counts} runs, not {runs}")
    result.hold(seen.revisions <= REVISIONS_MAX, f"{seen.revisions} revisions")
    result.hold(seen.threads <= 1, f"{seen.threads} threads on a pull request")
    result.violations += _unfinished(at.engine)
    # Before its incident is there, a pipeline's cause is read from a log; from then on it is known.
    read_whole = _read_whole(at.engine)
    per_run = sum(calls.values()) / runs
    result.hold(per_run <= CALLS_PER_RUN_MAX or runs < 1000, f"{per_run:.2f} requests per run")
    result.hold(at.triage.memory.growth <= GROWTH_MAX, f"memory grew by {at.triage.memory.growth:.0f} MB")
    result.figures = {
        "work items": seen.work_items,
        "counted": sum(counts),
        "revisions": seen.revisions,
        "threads per pull request": seen.threads,
        "requests per run": round(per_run, 2),
        "logs of runs read": read_whole,
        "answered within, 99 %": f"{1000 * sent.percentile(0.99):.0f} ms",
        "in half of all": f"{1000 * sent.percentile(0.5):.0f} ms",
        "seconds after the last event until all are counted": round(later, 1),
        "memory of all processes (most)": f"{max(at.triage.memory.samples, default=0):.0f} MB",
        "its growth": f"{at.triage.memory.growth:.0f} MB",
        "requests": ", ".join(f"{name} {count}" for name, count in Counter(calls).most_common(6)),
    }
    return result


def _unfinished(engine: Engine) -> list[str]:
    """Return the jobs of runs that did not end well."""
    with Session(engine) as session:
        states = session.exec(select(Job.state).where(Job.kind == jobs.Kind.BUILD)).all()
    bad = Counter(state for state in states if state != jobs.State.COMPLETED)
    return [f"{count} jobs are {state}" for state, count in bad.items()]


def _read_whole(engine: Engine) -> int:
    with Session(engine) as session:
        return len(session.exec(select(FindingRow.id).where(col(FindingRow.fingerprint) != "")).all())
