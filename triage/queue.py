"""`triage jobs`: the queue as a person sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlmodel import Session, col, select

from triage import db, jobs
from triage.db import Job
from triage.errors import UsageError
from triage.jobs import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Engine

    from triage.config import Settings

_TROUBLED = (State.RETRYABLE, State.DISCARDED, State.QUARANTINED)


def show(settings: Settings, states: Sequence[str], limit: int, form: str) -> None:
    """Print jobs, the newest first; without states those that did not succeed so far."""
    with Session(_engine(settings)) as session:
        query = select(Job).where(col(Job.state).in_(states or _TROUBLED))
        found = session.exec(query.order_by(col(Job.id).desc()).limit(limit)).all()
        if form == "json":
            print(json.dumps([_plain(job) for job in found], indent=2))  # noqa: T201 - the command's output
            return
    out = Console()
    if not found:
        out.print("No job is in trouble." if not states else f"No job is {' or '.join(states)}.")
        return
    table = Table("Job", "About", "State", "Failures", "Why", pad_edge=False)
    for job in found:
        failures = f"{job.attempts}" + (f", {job.crashes} crashes" if job.crashes else "")
        table.add_row(
            str(job.id), escape(_about(job)), job.state, failures, escape(job.error or job.outcome or "–")
        )
    out.print(table)
    if any(job.state in {State.DISCARDED, State.QUARANTINED} for job in found):
        out.print("Try again with: triage jobs replay NUMBER, or triage jobs replay --state quarantined")


def show_one(settings: Settings, number: int, form: str) -> None:
    """Print one job. Raises UsageError when there is none of this number."""
    with Session(_engine(settings)) as session:
        job = session.get(Job, number)
        if job is None:
            raise UsageError(f"There is no job {number}; triage jobs list shows those in trouble.")
        told = _plain(job)
        about = _about(job)
    if form == "json":
        print(json.dumps(told, indent=2))  # noqa: T201 - the command's output
        return
    out = Console(highlight=False, soft_wrap=True)
    out.print(f"[bold]Job {number}[/]: {escape(about)}")
    for name, value in told.items():
        if value not in ("", None) and name != "id":
            out.print(f"  [dim]{name.replace('_', ' '):15}[/] {escape(str(value))}")


def replay(settings: Settings, numbers: Sequence[int], state: str | None) -> None:
    """Make jobs available again and say which. Raises UsageError when one cannot be."""
    if not numbers and not state:
        raise UsageError("Name the jobs to try again by number, or all of a state with --state.")
    engine = _engine(settings)
    wanted = list(numbers)
    if state:
        with Session(engine) as session:
            wanted += [number for number in session.exec(select(Job.id).where(Job.state == state)) if number]
    refused = [number for number in dict.fromkeys(wanted) if not jobs.replay(engine, number)]
    done = len(set(wanted)) - len(refused)
    Console().print(f"{'1 job is' if done == 1 else f'{done} jobs are'} tried again.")
    if refused:
        listed = ", ".join(map(str, refused))
        raise UsageError(f"Not tried again, for they do not exist or have not ended: {listed}.")


def _engine(settings: Settings) -> Engine:
    engine = db.open_engine(settings.database.url)
    db.migrate(engine)
    return engine


def _about(job: Job) -> str:
    return f"{jobs.about(job)} of {job.project}" if job.project else jobs.about(job)


def _plain(job: Job) -> dict[str, Any]:
    told: dict[str, Any] = job.model_dump(mode="json")
    return told
