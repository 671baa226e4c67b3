"""Acts on Azure DevOps: written down before and after, so that a crash does nothing twice."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select, update

from triage.db import Effect, now, present, reader
from triage.errors import RetryLater, Snooze

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

_LEASE_SECONDS = 180.0  # longer than any one act on Azure DevOps may take
_BUSY_SECONDS = 2.0


class Lost(RetryLater):
    """Another worker took the act over meanwhile; what came of ours here is not written down."""


@dataclass
class Intent:
    """An effect being carried out; set what came of it before the `with` ends."""

    attempts: int  # 1 the first time; more: an earlier attempt may have done it
    done: bool
    remote_id: str | None = None
    url: str | None = None
    detail: str = ""


def is_done(engine: Engine, key: str) -> bool:
    """Return whether an act was carried out already."""
    with Session(reader(engine)) as session:
        done = select(Effect.id).where(Effect.key == key, Effect.state == "done")
        return session.exec(done).first() is not None


@contextmanager
def intent(
    engine: Engine,
    *,
    key: str,
    kind: str,
    worker: str,
    run_key: str = "",
    incident_id: int | None = None,
    repeated: bool = False,
) -> Iterator[Intent]:
    """Write down that something is about to be done, let it be done, write down what came of it.

    The intent is committed before the body runs, so that a crash leaves it to be found again.
    A `repeated` effect is done again by each run, but by one worker at a time. Raises Snooze while
    another worker is at the same effect, Lost when another has taken it over during the body.
    """
    _write_down(engine, key=key, kind=kind, run_key=run_key, incident_id=incident_id)
    effect = _take(engine, key=key, kind=kind, worker=worker, repeated=repeated)
    doing = Intent(
        attempts=effect.attempts,
        done=effect.state == "done" and not repeated,
        remote_id=effect.remote_id,
        url=effect.url,
        detail=effect.detail,
    )
    if doing.done:
        yield doing
        return
    try:
        yield doing
    except BaseException:
        _settle(engine, key, worker, lease=None, lease_until=None)
        raise
    settled = _settle(
        engine,
        key,
        worker,
        state="done",
        done_at=now(),
        lease=None,
        lease_until=None,
        remote_id=doing.remote_id,
        url=doing.url,
        detail=doing.detail,
    )
    if not settled:
        raise Lost(f"Another worker took over while this one stood still: {kind}.")


def _write_down(engine: Engine, *, key: str, kind: str, run_key: str, incident_id: int | None) -> None:
    """Commit the intent, unless it is there already."""
    try:
        with Session(engine) as session, session.begin():
            if session.exec(select(Effect).where(Effect.key == key)).first() is None:
                effect = Effect(key=key, kind=kind, run_key=run_key, incident_id=incident_id)
                effect.intended_at = present()  # compared with when another machine opened an incident again
                session.add(effect)
    except IntegrityError:
        pass  # another worker wrote the same intent first


def _take(engine: Engine, *, key: str, kind: str, worker: str, repeated: bool) -> Effect:
    """Lease an effect that is still to be done."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        free = (
            (col(Effect.lease).is_(None)) | (col(Effect.lease_until) < present()) | (Effect.lease == worker)
        )
        to_do = sa.true() if repeated else col(Effect.state) != "done"
        session.exec(
            update(Effect)
            .where(col(Effect.key) == key, to_do, free)
            .values(lease=worker, lease_until=present(_LEASE_SECONDS), attempts=Effect.attempts + 1)
        )
        effect = session.exec(select(Effect).where(Effect.key == key)).one()
        if (repeated or effect.state != "done") and effect.lease != worker:
            raise Snooze(f"Another worker is at it already: {kind}.", _BUSY_SECONDS)
        return effect


def _settle(engine: Engine, key: str, worker: str, **values: object) -> bool:
    with Session(engine) as session, session.begin():
        done = session.exec(
            update(Effect).where(col(Effect.key) == key, col(Effect.lease) == worker).values(**values)
        )
        return bool(done.rowcount)
