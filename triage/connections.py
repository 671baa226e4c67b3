"""`triage connections`: every connection, when its credential ends, whose it is and who uses it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from triage import azdo, config, expiry, inventory, owner, renewal
from triage.db import now
from triage.errors import UsageError
from triage.explain import plain
from triage.safe import visible

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from triage.azdo import Door
    from triage.azdo.graph import Graph
    from triage.config import Settings
    from triage.domain import Connection, Owner
    from triage.inventory import Held, Own

_SHOWN_PIPELINES = 3
_LIST_HINT = (
    "How one is renewed, and whose it is: triage connections show NAME. A served triage has /connections."
)
_UNUSED_HINT = "Delete what nobody needs: triage connections show NAME has the address of its page."
_NOTHING_SEEN = (
    "triage sees no connection: it needs the role Reader on them. triage doctor looks at its rights."
)


@dataclass(frozen=True)
class _Asked:
    """What there is, and what was not told."""

    door: Door
    held: tuple[Held, ...]  # by name
    own: tuple[Own, ...]
    problems: tuple[str, ...]


def show(settings: Settings, projects: Sequence[str], form: str, *, unused: bool = False) -> None:
    """Print every connection; `unused`: only those that no run used for long."""
    asked = _ask(settings, projects)
    held = [each for each in asked.held if not unused or _is_idle(each)]
    own = () if unused else asked.own
    if form == "json":
        _print_json([*map(_own_plain, own), *map(_plain, held)])
    elif held or own:
        _table(held, own)
        _hint(_UNUSED_HINT if unused else _LIST_HINT)
    else:
        _hint("Every connection was used lately, as far as triage sees." if unused else _NOTHING_SEEN)
    _complain(asked)


def show_one(settings: Settings, name: str, projects: Sequence[str], form: str) -> None:
    """Print everything about the connections of a name or id. Raises UsageError when there is none."""
    asked = _ask(settings, projects, name=name)
    if not asked.held:
        raise UsageError(
            f"There is no connection {name!r}; triage connections list shows those that it sees."
        )
    book = renewal.load(settings.rules.path)
    told = [
        {
            **_plain(each),
            "owner": _owner_plain(_owner(settings, asked.door, each)),
            "renewal": _renewal(book, asked.door, each),
        }
        for each in asked.held
    ]
    if form == "json":
        _print_json(told)
        _complain(asked)
        return
    out = Console(highlight=False, soft_wrap=True)
    for each in told:
        out.print(f"[bold]{_shown(each['name'])}[/]")
        for key, value in each.items():
            if key not in {"name", "renewal"} and value not in ("", None, []):
                out.print(f"  [dim]{key.replace('_', ' '):12}[/] {_shown(_as_text(value))}")
        steps = each["renewal"] or {"title": "Nothing is to be renewed.", "steps": []}
        out.print(f"  [dim]{'renewal':12}[/] {_shown(plain(steps['title']))}")
        for number, step in enumerate(steps["steps"], 1):
            out.print(f"  {'':12} {number}. {_shown(plain(step))}")
        for other in steps.get("alternatives", ()):
            out.print(f"  [dim]{'instead':12}[/] {_shown(plain(other['title']))}")
            for number, step in enumerate(other["steps"], 1):
                out.print(f"  {'':12} {number}. {_shown(plain(step))}")
    _complain(asked)


def _renewal(book: renewal.RecipeBook, door: Door, held: Held) -> dict[str, Any] | None:
    """Return how it is renewed, None for what never ends."""
    if held.end.source is expiry.Source.NOTHING:
        return None
    recipe = renewal.ahead(book, held.connection, held.places[0].project, door.organization_url)
    return renewal.as_json(recipe)


def expiring(settings: Settings, projects: Sequence[str], within_days: int, form: str) -> int:
    """Print what ends within so many days, or has ended, the soonest first. Returns 1 when something does."""
    asked = _ask(settings, projects)
    held = [each for each in asked.held if _ends_within(each, within_days)]
    own = [each for each in asked.own if _ends_within(each, within_days)]
    held.sort(key=lambda each: each.end.at or now())
    if form == "json":
        _print_json([*map(_own_plain, own), *map(_plain, held)])
    elif held or own:
        _table(held, own)
        _hint(_LIST_HINT)
    else:
        Console().print(f"No credential is known to end within {within_days} days.")
    ends = [*(each.end for each in asked.held), *(each.end for each in asked.own)]
    unknown = sum(end.source is expiry.Source.UNKNOWN for end in ends)
    if unknown and form != "json":
        _hint(f"Of {unknown} nobody tells the end: triage connections list says what would help.")
    _complain(asked)
    return 1 if held or own else 0


def owners(settings: Settings, projects: Sequence[str], form: str) -> None:
    """Print whose each connection is, and how that is known."""
    asked = _ask(settings, projects, uses=False)
    told = [(each, _owner(settings, asked.door, each)) for each in asked.held]
    if form == "json":
        _print_json([{**_named(each), "owner": _owner_plain(whose)} for each, whose in told])
    else:
        table = Table("Connection", "Project", "Owner", "How known", pad_edge=False)
        for each, whose in told:
            who = whose.assignee or whose.team or whose.area or "–"
            table.add_row(
                _shown(each.connection.name), _shown(_projects(each)), _shown(who), _shown(whose.reason)
            )
        Console().print(table)
        if nobody := sum(not (whose.assignee or whose.team or whose.area) for _, whose in told):
            _hint(
                f"Of {nobody} no owner is known: set owners.default_team, or write an entry of owners.file."
            )
    _complain(asked)


def _hint(said: str) -> None:
    Console(highlight=False, soft_wrap=True).print(said)


def _ask(settings: Settings, projects: Sequence[str], *, name: str = "", uses: bool = True) -> _Asked:
    config.require_organization(settings)
    account = azdo.account(settings.azure_devops)
    door = account.door()
    graph: Graph | None = inventory.asked(settings, account)
    there = inventory.seen(door, projects or settings.expiry.projects)
    chosen = [
        places for places in there.places.values() if not name or _is_called(places[0].connection, name)
    ]
    held = [inventory.look(places, graph) for places in chosen]
    if uses:
        held = [inventory.with_uses(door, each) for each in held]
    held.sort(key=lambda each: (each.connection.name.lower(), each.connection.id))
    own = inventory.own(settings, graph)
    problems = (*there.refused, *((graph.problem,) if graph and graph.problem else ()))
    return _Asked(door, tuple(held), own, problems)


def _is_called(connection: Connection, name: str) -> bool:
    return name.lower() in {connection.id, connection.name.lower()}


def _owner(settings: Settings, door: Door, held: Held) -> Owner:
    section = settings.owners
    file = owner.load_owners(section.file) if section.file else None
    fallback = owner.Fallback(section.default_team, section.default_area, section.default_assignee)
    return owner.ahead(door, held.connection, held.places[0].project, file, fallback)


def _ends_within(each: Held | Own, days: int) -> bool:
    left = each.end.days_left(now())
    return left is not None and left <= days


def _is_idle(held: Held) -> bool:
    return held.uses is not None and inventory.is_idle(held.last_used)


def _table(held: Sequence[Held], own: Sequence[Own]) -> None:
    table = Table(pad_edge=False)
    for name in ("Connection", "Project", "Type, scheme", "Age", "Ends", "How known", "Used by"):
        table.add_column(name, overflow="fold")
    for mine in own:
        ends = _ends(mine.end)
        table.add_row("triage itself", "–", mine.auth, "–", ends, _shown(mine.end.reason), mine.setting)
    for each in held:
        connection = each.connection
        table.add_row(
            _shown(connection.name),
            _shown(_projects(each)),
            _shown(f"{connection.type}, {connection.scheme}"),
            _age(connection.created_at),
            _ends(each.end),
            _shown(each.end.reason),
            _shown(_used(each)),
        )
    Console().print(table)


def _ends(end: expiry.End) -> str:
    left = end.days_left(now())
    if end.at is None or left is None:
        return "never" if end.source is expiry.Source.NOTHING else "?"
    when = "today" if left == 0 else f"in {left} days" if left > 0 else f"{-left} days ago"
    return f"{end.at:%Y-%m-%d} ({when})"


def _used(held: Held) -> str:
    if held.uses is None:
        return "not told"
    if held.is_unused:
        return "nobody"
    names = held.pipelines
    more = f" and {len(names) - _SHOWN_PIPELINES} more" if len(names) > _SHOWN_PIPELINES else ""
    last = f", last {held.last_used:%Y-%m-%d}" if held.last_used else ""
    return f"{', '.join(names[:_SHOWN_PIPELINES])}{more}{last}"


def _projects(held: Held) -> str:
    return ", ".join(place.project for place in held.places)


def _age(created: datetime | None) -> str:
    return f"{(now() - created).days} days" if created else "?"


def _named(held: Held) -> dict[str, Any]:
    connection = held.connection
    return {
        "id": connection.id,
        "name": connection.name,
        "projects": [place.project for place in held.places],
        "url": connection.url,
    }


def _plain(held: Held) -> dict[str, Any]:
    connection = held.connection
    return {
        **_named(held),
        "type": connection.type,
        "scheme": connection.scheme,
        "creation": connection.creation_mode,
        "created_at": _moment(connection.created_at),
        "changed_at": _moment(connection.modified_at),
        "disabled": connection.is_disabled,
        **_end_plain(held.end),
        "pipelines": None if held.uses is None else list(held.pipelines),
        "last_used": _moment(held.last_used),
        "unused": None if held.uses is None else _is_idle(held),
    }


def _own_plain(own: Own) -> dict[str, Any]:
    return {"name": "triage itself", "setting": own.setting, "auth": own.auth, **_end_plain(own.end)}


def _end_plain(end: expiry.End) -> dict[str, Any]:
    return {
        "ends_at": _moment(end.at),
        "days_left": end.days_left(now()),
        "source": end.source.value,
        "reason": end.reason,
    }


def _owner_plain(whose: Owner) -> dict[str, Any]:
    return {
        "assignee": whose.assignee,
        "team": whose.team,
        "area": whose.area,
        "method": whose.method.value,
        "reason": whose.reason,
    }


def _moment(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(str(each) for each in value.values() if each)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _shown(text: str) -> str:
    return escape(visible(text))


def _print_json(told: list[dict[str, Any]]) -> None:
    print(json.dumps(told, indent=2))  # noqa: T201 - the command's output


def _complain(asked: _Asked) -> None:
    for problem in asked.problems:
        Console(stderr=True, highlight=False, soft_wrap=True).print(_shown(problem))
