"""One gate for all processes: while Azure DevOps asks for patience, none of them sends.

The database is asked before each request, so that no request begins once a closure is committed. What
was on its way by then still arrives: at most one request for each other worker. Time is the database's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select, update

from triage.db import Throttle, present, reader
from triage.errors import Snooze

if TYPE_CHECKING:
    import threading

    from sqlalchemy.engine import Engine

_STOPPING_SECONDS = 1.0


class SharedGate:
    """The gate of an organisation, kept in the database. `stopping` ends any wait."""

    def __init__(self, engine: Engine, organization_url: str, stopping: threading.Event) -> None:
        self._reader = reader(engine)
        self._engine = engine
        self._organization = organization_url.lower()
        self._stopping = stopping
        self._query = sa.select(col(Throttle.closed_until), present(), col(Throttle.reason)).where(
            col(Throttle.organization) == self._organization
        )

    def closed_for(self) -> tuple[float, str]:
        """Return for how many seconds nothing may be sent, and why."""
        with self._reader.connect() as connection:
            row = connection.execute(self._query).first()
        return (max((row[0] - row[1]).total_seconds(), 0.0), row[2]) if row else (0.0, "")

    def close(self, seconds: float, reason: str) -> None:
        """Let nothing through for so long; a longer closure that is on already stays."""
        try:
            self._close(seconds, reason)
        except IntegrityError:  # another process has just closed it for the first time
            self._close(seconds, reason)

    def _close(self, seconds: float, reason: str) -> None:
        until = present(seconds)
        with Session(self._engine) as session, session.begin():
            session.exec(
                update(Throttle)
                .where(col(Throttle.organization) == self._organization, col(Throttle.closed_until) < until)
                .values(closed_until=until, reason=reason)
            )
            known = select(Throttle.organization).where(col(Throttle.organization) == self._organization)
            if session.exec(known).first() is None:
                session.add(Throttle(organization=self._organization, closed_until=until, reason=reason))

    def pause(self, seconds: float) -> None:
        """Wait. Raises Snooze when the process is told to stop."""
        if self._stopping.wait(seconds):
            raise Snooze("triage is stopping; the run is taken up again.", _STOPPING_SECONDS)
