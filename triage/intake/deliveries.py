"""2 store: what has come in, by whichever way, becomes a row and the job it tells of."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from triage import jobs
from triage.db import Delivery
from triage.intake.events import Notice, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Engine

    from triage.intake.beat import Beats

    Source = Literal["hook", "service-bus"]

_TOGETHER_MAX = 100


@dataclass
class _Told:
    """An event whose sender waits for it to be kept."""

    notice: Notice
    wait_seconds: float = 0.0  # until its run is due
    outcome: str = ""  # "" until it is kept
    error: Exception | None = None

    @property
    def is_over(self) -> bool:
        return bool(self.outcome) or self.error is not None


class Keeper:
    """Keeps events; those that come while a transaction is written are kept together by the next one.

    In a storm each event by itself would wait for the disk, and for every other event. With `beats` the
    runs of a storm are due together.
    """

    def __init__(self, engine: Engine, *, source: Source = "hook", beats: Beats | None = None) -> None:
        self._engine = engine
        self._source = source
        self._beats = beats
        self._guard = threading.Lock()
        self._writing = threading.Lock()
        self._waiting: list[_Told] = []

    def store(self, body: bytes | None, organization_url: str) -> dict[str, str]:
        """Keep an event durably and queue the run it tells of. Returns what became of it.

        A body that could not be taken whole is None.
        """
        if body is None:
            notice = Notice("refused", "The body is too large, compressed or broke off.")
        else:
            notice = parse(body, organization_url)
        return {"outcome": self._keep(notice), "reason": notice.reason}

    def _keep(self, notice: Notice) -> str:
        mine = _Told(notice)
        with self._guard:
            if self._beats is not None and notice.ref is not None:
                mine.wait_seconds = self._beats.wait(notice.ref.project)
            self._waiting.append(mine)
        while not mine.is_over:
            with self._writing:
                if not mine.is_over:
                    self._write(self._next())
        if mine.error is not None:
            raise mine.error
        return mine.outcome

    def _next(self) -> list[_Told]:
        with self._guard:
            taken, self._waiting = self._waiting[:_TOGETHER_MAX], self._waiting[_TOGETHER_MAX:]
        return taken

    def _write(self, told: list[_Told]) -> None:
        try:
            try:
                outcomes = self._kept(told)
            except IntegrityError:  # another receiver is told the same at this moment
                outcomes = [outcome for each in told for outcome in self._kept([each])]
        except Exception as error:  # noqa: BLE001 - each sender is told
            for each in told:
                each.error = error
        else:
            for each, outcome in zip(told, outcomes, strict=True):
                each.outcome = outcome

    def _kept(self, told: Sequence[_Told]) -> list[str]:
        """Keep events in one transaction. Returns what became of each."""
        outcomes = [""] * len(told)
        order = sorted(range(len(told)), key=lambda n: str(told[n].notice.ref or told[n].notice.connection))
        with Session(self._engine) as session, session.begin():
            for number in order:
                outcomes[number] = _keep(session, told[number], self._source)
        return outcomes


def _keep(session: Session, told: _Told, source: Source) -> str:
    notice = told.notice
    outcome: str = notice.kind
    if notice.ref is not None:
        is_new = jobs.put_within(session, notice.ref, marker=notice.marker, wait_seconds=told.wait_seconds)
        outcome = "queued" if is_new else "duplicate"
    elif notice.connection:
        is_new = jobs.put_look(session, notice.connection, marker=notice.marker)
        outcome = "queued" if is_new else "duplicate"
    session.add(
        Delivery(
            source=source,
            event_type=notice.event_type,
            event_id=notice.event_id,
            subscription_id=notice.subscription_id,
            notification_id=notice.notification_id,
            outcome=outcome,
            reason=notice.reason,
            run_key=str(notice.ref) if notice.ref else "",
        )
    )
    return outcome
