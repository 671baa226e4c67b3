"""What triage remembers, and when it forgets: nobody should have to clean its database."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy.orm import aliased
from sqlmodel import Session, col, delete, func, select

from triage.db import CLOSED, Delivery, Effect, FindingRow, Incident, Job, TriagedRun, now
from triage.jobs import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Engine
    from sqlmodel import SQLModel

ROUNDS_KEPT = timedelta(days=7)  # periodic work that ended well: a thousand a day, of interest to nobody
_AT_ONCE = 500  # rows, so that whoever wants to write waits a moment only
_SECONDS_MAX = 30.0  # for which a worker does nothing else; the rest is forgotten another day


@dataclass
class Forgotten:
    """How much was forgotten."""

    incidents: int = 0
    runs: int = 0
    events: int = 0
    is_all: bool = True  # nothing is left that could be forgotten

    def __str__(self) -> str:
        """Return it as one sentence."""
        rest = "" if self.is_all else " More is left for the next time."
        return f"Forgot {self.incidents} incidents, {self.runs} runs and {self.events} events.{rest}"


def forget(engine: Engine, keep: timedelta, *, seconds: float = _SECONDS_MAX) -> Forgotten:
    """Delete what ended longer ago than is kept, little by little, and for so long at most.

    Stays: what is open or waits, and all that belongs to it. A run's job is what tells a run that is known
    from a new one, so nobody may ask for runs from before (`triage sweep`).
    """
    before, until = now() - keep, time.monotonic() + seconds
    done = Forgotten()

    def drain(some: Callable[[], int]) -> int:
        total = 0
        while time.monotonic() < until:
            count = some()
            if not count:
                return total
            total += count
        done.is_all = False
        return total

    done.incidents = drain(lambda: _incident(engine, before))
    done.runs = drain(lambda: _runs(engine, before))
    done.events = drain(lambda: _some(engine, Delivery, col(Delivery.received_at) < before))
    ended, whole = col(Job.finished_at), (col(Job.project) == "") & (col(Job.state) == State.COMPLETED)
    drain(lambda: _some(engine, Job, whole & (ended < max(before, now() - ROUNDS_KEPT))))
    drain(lambda: _some(engine, Job, ended < before))
    free = col(Effect.incident_id).is_(None)  # a digest, a warning
    drain(lambda: _some(engine, Effect, free & (col(Effect.intended_at) < before)))
    return done


def _incident(engine: Engine, before: datetime) -> int:
    """Delete the next incident with its findings, acts and jobs; 0 when there is none.

    The newest stays: SQLite would give its number, which stands in a work item, to another one.
    """
    waiting = select(Job.id).where(Job.incident_id == Incident.id, col(Job.finished_at).is_(None)).exists()
    over = (
        select(Incident.id)
        .where(
            Incident.state == CLOSED,
            col(Incident.last_seen_at) < before,
            col(Incident.closed_at) < before,
            col(Incident.id) < select(func.max(Incident.id)).scalar_subquery(),
            ~waiting,
        )
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    with Session(engine) as session, session.begin():
        number = session.exec(over).first()
        if number is None:
            return 0
        for table in (FindingRow, Effect, Job):
            session.exec(delete(table).where(col(table.incident_id) == number))
        session.exec(delete(Incident).where(col(Incident.id) == number))
    return 1


def _runs(engine: Engine, before: datetime) -> int:
    """Delete some runs that no incident tells of any more, with what was found in them besides."""
    finding = aliased(FindingRow)
    told = select(finding.id).where(finding.run_row == TriagedRun.id, col(finding.incident_id).is_not(None))
    # Held, so that nobody finds something in one meanwhile; that would be deleted with it.
    some = (
        select(TriagedRun.id)
        .where(col(TriagedRun.triaged_at) < before, ~told.exists())
        .limit(_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    with Session(engine) as session, session.begin():
        numbers = session.exec(some).all()
        session.exec(delete(FindingRow).where(col(FindingRow.run_row).in_(numbers)))
        session.exec(delete(TriagedRun).where(col(TriagedRun.id).in_(numbers)))
    return len(numbers)


def _some(engine: Engine, table: type[SQLModel], condition: ColumnElement[bool]) -> int:
    number = col(table.id)  # type: ignore[attr-defined]
    with Session(engine) as session, session.begin():
        some = select(number).where(condition).limit(_AT_ONCE).with_for_update(skip_locked=True)
        return session.exec(delete(table).where(number.in_(session.exec(some).all()))).rowcount
