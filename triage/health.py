"""How each part of triage is, as its pages, `/healthz` and the measures tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlmodel import Session

from triage.db import Health, now

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine


def keep(engine: Engine, component: str, state: str, detail: str = "") -> Health:
    """Write down how a part is now, and since when it has been so. Any state but `ok` is told of."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        row = session.get(Health, component)
        if row is None:
            row = Health(component=component, state=state)
            session.add(row)
        if row.state != state:
            row.state, row.since = state, now()
        row.detail, row.checked_at = detail, now()
    return row
