"""Keep what the daily look at all connections saw, so that a page need not ask Azure DevOps."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlmodel import Session, select

from triage.azdo import urls
from triage.db import Health, SeenConnection, Warned, now, reader
from triage.expiry import Source
from triage.safe import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.engine import Engine

    from triage.azdo import Door
    from triage.inventory import Held, Own, Seen

LOOKED = "inventory"  # as Health.component
REFUSED = "null"  # as pipelines: triage may not see them
OWN = "own:"  # how the key of a credential of triage's own begins
_CONNECTION = "connection:"
_FORGOTTEN_AFTER = timedelta(days=30)  # what is in a project that triage sees no more


def longest_not_asked(engine: Engine, ids: Sequence[str], limit: int) -> frozenset[str]:
    """Return those of which it was asked longest ago, or never, who uses them."""
    with Session(reader(engine)) as session:
        asked = {
            row.key.removeprefix(_CONNECTION): row.uses_asked_at
            for row in session.exec(select(SeenConnection))
        }
    return frozenset(
        sorted(ids, key=lambda each: when.timestamp() if (when := asked.get(each)) else 0)[:limit]
    )


def keep(
    engine: Engine,
    door: Door,
    there: Seen,
    held: Iterable[Held],
    own: Iterable[Own],
    problems: Sequence[str],
) -> None:
    """Keep what was seen, and that it was looked; what is not there any more is forgotten."""
    with Session(engine) as session, session.begin():
        before = {row.key: row for row in session.exec(select(SeenConnection))}
        found = [
            *(_connection(each, before.get(f"{_CONNECTION}{each.connection.id}")) for each in held),
            *map(_own, own),
        ]
        items = {row.key: row for row in session.exec(select(Warned))}
        for row in found:
            warned = items.get(row.key)
            row.work_item = warned.work_item if warned else None
            row.work_item_url = (
                urls.work_item_page(door.organization_url, warned.project_id, warned.work_item)
                if warned
                else None
            )
            session.merge(row)
        still = {row.key for row in found}
        gone = [row for key, row in before.items() if key not in still]
        for row in gone:
            if row.project_id in there.projects or row.seen_at < now() - _FORGOTTEN_AFTER or _is_own(row):
                session.delete(row)
        session.merge(Health(component=LOOKED, state="ok", detail=" ".join(problems)))


def _is_own(row: SeenConnection) -> bool:
    return row.key.startswith(OWN)


def _connection(held: Held, before: SeenConnection | None) -> SeenConnection:
    connection, first = held.connection, held.places[0]
    row = SeenConnection(
        key=f"{_CONNECTION}{connection.id}",
        name=visible(connection.name),
        type=connection.type,
        scheme=connection.scheme,
        creation=connection.creation_mode,
        project_id=first.connection.project_id,
        places=json.dumps(
            [{"project": visible(each.project), "url": each.connection.url} for each in held.places]
        ),
        is_disabled=connection.is_disabled,
        created_at=connection.created_at,
        changed_at=connection.modified_at,
        ends_at=held.end.at,
        source=held.end.source.value,
        reason=held.end.reason,
    )
    if held.uses is not None:
        row.pipelines = json.dumps([visible(each) for each in held.pipelines])
        row.last_used_at, row.uses_asked_at = held.last_used, now()
    elif held.is_refused:
        row.pipelines, row.uses_asked_at = REFUSED, now()  # asked: it is the others' turn
    elif before is not None:
        row.pipelines, row.last_used_at = before.pipelines, before.last_used_at
        row.uses_asked_at = before.uses_asked_at
        # That it was seen at work says more of its end than its age does.
        if held.end.source is Source.AUTOMATIC and before.changed_at == row.changed_at and row.uses_asked_at:
            row.ends_at, row.source, row.reason = before.ends_at, before.source, before.reason
    return row


def _own(own: Own) -> SeenConnection:
    return SeenConnection(
        key=f"{OWN}{own.setting}",
        name="triage itself",
        scheme=own.auth,
        ends_at=own.end.at,
        source=own.end.source.value,
        reason=own.end.reason,
    )
