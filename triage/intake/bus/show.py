"""`triage bus dead-letters`: what it prints."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import click

from triage.errors import UsageError
from triage.intake.bus import client, dead_letters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triage.config import Settings
    from triage.intake.bus.dead_letters import DeadLetter

_EVERYTHING = 1_000_000


def table(settings: Settings, *, limit: int, form: Literal["text", "json"]) -> None:
    """Print the oldest dead letters, one a line."""
    _require(settings)
    found = dead_letters.read(settings, limit=limit)
    for each in found:
        if form == "json":
            click.echo(json.dumps(_as_json(each)))
        else:
            click.echo(f"{each.id:>8}  {_time(each)}  {each.run or '–'}  {each.reason}: {each.description}")
    if form == "text":
        more = " More may follow: --limit." if len(found) == limit else ""
        queue = settings.service_bus.queue
        count = {0: "no dead letters", 1: "1 dead letter"}.get(len(found), f"{len(found)} dead letters")
        click.echo(f"The queue {queue} has {count}.{more}")


def one(settings: Settings, number: int, *, form: Literal["text", "json"]) -> None:
    """Print everything about one dead letter but its body."""
    _require(settings)
    found = next((each for each in dead_letters.read(settings, limit=_EVERYTHING) if each.id == number), None)
    if found is None:
        raise UsageError(
            f"There is no dead letter {number}: triage bus dead-letters list shows what there is."
        )
    if form == "json":
        click.echo(json.dumps(_as_json(found), indent=2))
        return
    click.echo(f"Dead letter  {found.id}")
    click.echo(f"Since        {_time(found)}")
    click.echo(f"Reason       {found.reason}: {found.description}")
    click.echo(f"Deliveries   {found.deliveries}")
    click.echo(f"Event        {found.event_type or 'none that triage knows'}, {found.size_bytes} bytes")
    click.echo(f"Run          {found.run or '–'}")
    click.echo(f"Next: triage bus dead-letters replay {found.id}")


def replayed(settings: Settings, numbers: Sequence[int]) -> None:
    """Put the dead letters of these numbers on the queue again, or all of them, and say so."""
    _require(settings)
    wanted = numbers or [each.id for each in dead_letters.read(settings, limit=_EVERYTHING)]
    done = dead_letters.replay(settings, wanted)
    for number in done:
        click.echo(f"Dead letter {number} is on the queue again.")
    missing = [str(number) for number in wanted if number not in done]
    if missing:
        raise UsageError(
            f"Not replayed: {', '.join(missing)}. They are gone, or another reader holds them: "
            "list again in a minute."
        )
    if not wanted:
        click.echo("There are no dead letters.")


def _require(settings: Settings) -> None:
    client.require_usable(settings)
    if not client.is_used(settings.service_bus):
        raise UsageError(
            "No Service Bus is set: name it with service_bus.connection_string "
            "(TRIAGE_SERVICE_BUS__CONNECTION_STRING) or service_bus.namespace."
        )


def _as_json(found: DeadLetter) -> dict[str, Any]:
    return asdict(found) | {"sent_at": found.sent_at.isoformat() if found.sent_at else None}


def _time(found: DeadLetter) -> str:
    return found.sent_at.strftime("%Y-%m-%d %H:%M:%S") if found.sent_at else "?"
