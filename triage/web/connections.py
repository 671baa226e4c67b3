"""The pages of service connections, as the daily look saw them; the same as JSON under /api.

No request of a person reaches Azure DevOps: all of it is what triage.register kept.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import sqlalchemy as sa
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.templating import Jinja2Templates
from sqlmodel import Session, col, func, select

from triage import db, inventory
from triage.db import Health, Incident, SeenConnection, not_over, reader
from triage.expiry import Source
from triage.register import LOOKED, OWN, REFUSED
from triage.web.words import ago, ahead, sought

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Engine

    from triage.config import Settings

_PAGE = 100  # connections on a page, and in an answer of the API
_DIGITS = 6  # of the number that a page begins with
_INCIDENTS = 20
_STATES = {
    "ended": "has ended",
    "soon": "ends soon",
    "later": "ends later",
    "never": "never ends",
    "unknown": "not known",
    "unused": "nobody uses it",
    "own": "triage's own",
}
_First = Annotated[str, Query(alias="from")]


def router(settings: Settings, engine: Engine) -> APIRouter:
    """Return the routes of connections."""
    routes = APIRouter()
    templates = Jinja2Templates(directory=Path(__file__).parent / "templates")
    templates.env.filters |= {"ago": ago, "ahead": ahead}
    soon_days = max(settings.expiry.warn_days)

    @routes.get("/connections")
    def connections_page(request: Request, q: str = "", state: str = "", first: _First = "") -> Response:
        told = _listed(engine, soon_days, {"q": sought(q), "state": state}, _number(first))
        told["every_seconds"] = settings.expiry.every_seconds
        return templates.TemplateResponse(request, "connections.html", told)

    @routes.get("/connections/{name}")
    def connection_page(request: Request, name: str) -> Response:
        told = {"connection": connection(engine, soon_days, name), "looked": looked(engine)}
        return templates.TemplateResponse(request, "connection.html", told)

    @routes.get("/api/connections")
    def connections_json(q: str = "", state: str = "", first: _First = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = _listed(
            engine, soon_days, {"q": sought(q), "state": state}, _number(first)
        )["connections"]
        return found

    @routes.get("/api/connections/{name}")
    def connection_json(name: str) -> dict[str, Any]:
        return connection(engine, soon_days, name)

    return routes


def ending(engine: Engine, soon_days: int, limit: int) -> list[dict[str, Any]]:
    """Return what ends soon, the soonest first."""
    with Session(reader(engine)) as session:
        query = _sorted(select(SeenConnection).where(_condition("soon", soon_days))).limit(limit)
        rows = session.exec(query).all()
        broken = _broken(session, rows)
        return [_plain(row, soon_days, broken) for row in rows]


def looked(engine: Engine) -> dict[str, Any] | None:
    """Return when triage last looked at all connections, and what it was not shown; None: never yet."""
    with Session(reader(engine)) as session:
        row = session.get(Health, LOOKED)
        return {"at": row.checked_at.isoformat(), "problem": row.detail} if row else None


def is_known(session: Session, connection_id: str | None) -> bool:
    """Return whether a connection has a page here."""
    return session.get(SeenConnection, f"connection:{connection_id}") is not None


def connection(engine: Engine, soon_days: int, name: str) -> dict[str, Any]:
    """Return a connection, by its id, or a credential of triage's own, with its incidents. Raises 404."""
    name = sought(name)
    key = name if name.startswith(OWN) else f"connection:{name.lower()}"
    with Session(reader(engine)) as session:
        row = session.get(SeenConnection, key)
        if row is None:
            raise HTTPException(
                404, f"triage has seen no connection {name}. It looks for new ones once a day (expiry)."
            )
        query = (
            select(Incident)
            .where(Incident.connection_id == name.lower())
            .order_by(col(Incident.id).desc())
            .limit(_INCIDENTS)
        )
        told = _plain(row, soon_days, _broken(session, [row]))
        return {**told, "incidents": [_brief(each) for each in session.exec(query)]}


def _listed(engine: Engine, soon_days: int, asked: dict[str, str], first: int) -> dict[str, Any]:
    """Return what the list shows: a page of those asked for, and the ways to the others."""
    chosen = asked["state"] if asked["state"] in _STATES else ""
    asked = {**asked, "state": chosen}
    given = {key: value for key, value in asked.items() if value}
    named = col(SeenConnection.name).icontains(asked["q"], autoescape=True)
    conditions = [named, _condition(chosen, soon_days)] if chosen else [named]
    with Session(reader(engine)) as session:
        rows = session.exec(
            _sorted(select(SeenConnection).where(*conditions)).offset(first).limit(_PAGE)
        ).all()
        broken = _broken(session, rows)
        count = session.exec(select(func.count()).select_from(SeenConnection).where(*conditions)).one()
        counts = {
            state: session.exec(
                select(func.count()).select_from(SeenConnection).where(_condition(state, soon_days))
            ).one()
            for state in _STATES
        }
        total = session.exec(select(func.count()).select_from(SeenConnection)).one()
    return {
        "asked": asked,
        "connections": [_plain(row, soon_days, broken) for row in rows],
        "count": count,
        "total": total,
        "first": first,
        "earlier": _link(given, max(0, first - _PAGE)) if first else "",
        "later": _link(given, first + _PAGE) if first + _PAGE < count else "",
        "json": _address("/api/connections", given, first),
        "states": [(state, words, counts[state]) for state, words in _STATES.items()],
        "looked": looked(engine),
    }


def _condition(state: str, soon_days: int) -> ColumnElement[bool]:
    """Return what is true of the rows of a state; days are whole ones, in UTC, as in the work items."""
    today = datetime.combine(db.now().date(), time(), UTC)
    late = today + timedelta(days=soon_days + 1)
    ends, used = col(SeenConnection.ends_at), col(SeenConnection.last_used_at)
    is_own = col(SeenConnection.key).startswith(OWN)
    has_secret = col(SeenConnection.source) != Source.NOTHING.value
    asked_at, users = col(SeenConnection.uses_asked_at), col(SeenConnection.pipelines)
    is_told = sa.and_(asked_at.is_not(None), users != REFUSED)
    idle = sa.or_(used.is_(None), used < db.now() - inventory.UNUSED_AFTER)
    # What breaks runs is used, whatever the history that Azure DevOps keeps of it says.
    broken = select(sa.literal("connection:") + col(Incident.connection_id)).where(
        not_over(), col(Incident.connection_id).is_not(None)
    )
    return {
        "ended": ends < today,
        "soon": sa.and_(ends >= today, ends < late),
        "later": ends >= late,
        "never": ~has_secret,
        "unknown": sa.and_(ends.is_(None), has_secret),
        "unused": sa.and_(~is_own, is_told, idle, col(SeenConnection.key).not_in(broken)),
        "own": is_own,
    }[state]


def _sorted(query: Any) -> Any:
    ends = col(SeenConnection.ends_at)
    return query.order_by(ends.is_(None), ends, col(SeenConnection.name), col(SeenConnection.key))


def _broken(session: Session, rows: Sequence[SeenConnection]) -> dict[str, Incident]:
    """Return the open incidents of connections, by the connection's key."""
    keys = {row.key.partition(":")[2]: row.key for row in rows}
    query = select(Incident).where(col(Incident.connection_id).in_(keys), not_over())
    return {keys[each.connection_id or ""]: each for each in session.exec(query)}


def _plain(row: SeenConnection, soon_days: int, broken: dict[str, Incident]) -> dict[str, Any]:
    told: dict[str, Any] = row.model_dump(mode="json", exclude={"key", "project_id"})
    is_own = row.key.startswith(OWN)
    left = (row.ends_at.date() - db.now().date()).days if row.ends_at else None
    incident = broken.get(row.key)
    is_told = row.uses_asked_at is not None and row.pipelines != REFUSED
    is_idle = inventory.is_idle(row.last_used_at)
    return {
        "id": row.key if is_own else row.key.partition(":")[2],
        **told,
        "places": json.loads(row.places),
        "pipelines": json.loads(row.pipelines),
        "days_left": left,
        "state": _state(row, left, soon_days),
        "is_own": is_own,
        "incident": incident.id if incident else None,  # open
        "work_item": row.work_item or (incident.work_item if incident else None),
        "work_item_url": row.work_item_url or (incident.work_item_url if incident else None),
        "is_unused": is_idle and incident is None if is_told and not is_own else None,
    }


def _state(row: SeenConnection, left: int | None, soon_days: int) -> str:
    if left is None:
        return "never" if row.source == Source.NOTHING.value else "unknown"
    return "ended" if left < 0 else "soon" if left <= soon_days else "later"


def _brief(row: Incident) -> dict[str, Any]:
    kept = {"id", "title", "state", "opened_at", "closed_at", "renewed_by", "work_item", "work_item_url"}
    told: dict[str, Any] = row.model_dump(mode="json", include=kept)
    return {**told, "runs": row.run_count}


def _number(given: str) -> int:
    """Return where a page begins; an address that somebody broke begins at the first connection."""
    return int(given) if given.isascii() and given.isdigit() and len(given) <= _DIGITS else 0


def _link(given: dict[str, str], first: int) -> str:
    return _address("/connections", given, first)


def _address(path: str, given: dict[str, str], first: int) -> str:
    asked = {**given, "from": str(first)} if first else given
    return f"{path}?{urlencode(asked)}" if asked else path
