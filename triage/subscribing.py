"""`triage hooks`: which projects, which target, and what is printed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape

from triage import azdo, config, hooks
from triage.azdo import administration
from triage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triage.azdo.administration import Project

_NO_CHANGES = (
    "Azure DevOps offers no event of changed service connections here: triage notices changes when it looks "
    "at open incidents (after_renewal.every_seconds)."
)
_NAMED_PROJECTS = 20
_LOCAL = {"127.0.0.1", "localhost", "::1"}
_DONE = {
    "keep": "is in order",
    "create": "created",
    "update": "updated",
    "recreate": "replaced",
    "remove": "removed a second one",
    "leave": "left as it is",
}


@dataclass(frozen=True)
class Choice:
    """What a person asked for on the command line."""

    projects: tuple[str, ...] = ()
    all_projects: bool = False
    url: str | None = None
    service_bus: bool = False
    queue: str | None = None
    send_connection_string: str | None = None
    releases: bool = False
    form: Literal["text", "json"] = "text"

    @property
    def events(self) -> tuple[hooks.Event, ...]:
        """Return the kinds of event."""
        return hooks.BUILDS + (hooks.RELEASES if self.releases else ())


def install(settings: config.Settings, choice: Choice, *, repair: bool = False) -> int:
    """Make the subscriptions as they should be and print what was done. Returns the exit code."""
    door, wanted, note = _asked(settings, choice, must_choose=not repair)
    steps = hooks.install(door, wanted, repair=repair)
    if choice.form == "json":
        print(json.dumps([_as_json(step) for step in steps], indent=2))  # noqa: T201 - the command's output
        return 0
    out = Console(highlight=False, soft_wrap=True)
    for step in steps:
        why = f": {step.reason}" if step.reason and step.kind != "create" else ""
        colour = {"keep": "dim", "leave": "yellow"}.get(step.kind, "green")
        name = f"{step.wanted.project.name}, {step.wanted.event.label}"
        out.print(f"[{colour}]{escape(f'{name}: {_DONE[step.kind]}{why}')}[/]")
    changed = sum(step.kind not in {"keep", "leave"} for step in steps)
    out.print(f"{changed} changed, {len(steps) - changed} left. They send to {escape(wanted[0].target.name)}")
    if note:
        out.print(f"[dim]{escape(note)}[/]")
    if changed:
        page = escape(f"{settings.pages_url}/deliveries")
        out.print(f"What arrives there is on {page} while triage serve runs; try it with a run that fails.")
    return 0


def status(settings: config.Settings, choice: Choice) -> int:
    """Print how the subscriptions stand. Returns 0 when all work, else 1."""
    door, wanted, note = _asked(settings, choice, must_choose=False)
    told = hooks.status(door, wanted)
    if choice.form == "json":
        print(json.dumps([{**asdict(each), "ok": each.ok} for each in told], indent=2))  # noqa: T201
        return int(not all(each.ok for each in told))
    out = Console(highlight=False, soft_wrap=True)
    for each in told:
        mark = "[green]ok[/]     " if each.ok else "[red]problem[/]"
        by = f", by {each.created_by}" if each.created_by else ""
        last = f", last delivered {each.last_success}" if each.last_success else ""
        out.print(f"{mark} {escape(f'{each.project}, {each.event}: {each.state}{by}{last}')}")
        if each.problem:
            out.print(f"        {escape(f'{each.problem}. Fix: {each.fix}')}")
        for failure in each.failures[:3]:
            out.print(f"        [dim]{escape(f'not delivered {failure}')}[/]")
    broken = sum(not each.ok for each in told)
    out.print(f"{len(told)} subscriptions, {broken} with a problem.")
    if note:
        out.print(f"[dim]{escape(note)}[/]")
    return int(bool(broken))


def target(settings: config.Settings, choice: Choice) -> hooks.Target:
    """Return where the events shall go. Raises UsageError when that is not known."""
    if not choice.service_bus:
        local = urlsplit(settings.azure_devops.url).hostname in _LOCAL
        return hooks.web_hook(settings.hook, choice.url or settings.server.public_url, local=local)
    queue = choice.queue or bus_queue(settings)
    if not queue:
        raise UsageError("Name the queue that Azure DevOps shall send to: --queue triage.")
    return hooks.service_bus(queue, choice.send_connection_string or "")


def bus_queue(settings: config.Settings) -> str:
    """Return the queue that triage receives events from, "" when it has no Service Bus."""
    bus = settings.service_bus
    return bus.queue if bus.connection_string or bus.namespace else ""


def chosen(known: Sequence[Project], names: Sequence[str]) -> list[Project]:
    """Return the projects of these names. Raises UsageError that lists what there is."""
    by_name = {each.name.lower(): each for each in known} | {each.id: each for each in known}
    missing = [name for name in names if name.lower() not in by_name]
    if missing:
        there = ", ".join(each.name for each in known[:_NAMED_PROJECTS]) or "none"
        more = f" and {len(known) - _NAMED_PROJECTS} more" if len(known) > _NAMED_PROJECTS else ""
        raise UsageError(
            f"There is no project {missing[0]!r}, or triage may not see it. There are: {there}{more}."
        )
    return list(dict.fromkeys(by_name[name.lower()] for name in names))


def _asked(
    settings: config.Settings, choice: Choice, *, must_choose: bool
) -> tuple[azdo.Door, list[hooks.Wanted], str]:
    """Return what there is to be, and what is to be said of it, "" for nothing."""
    config.require_organization(settings)
    where = target(settings, choice)
    if must_choose and not choice.projects and not choice.all_projects:
        raise UsageError("Say for which projects: --project Shop (again for others), or --all-projects.")
    door = azdo.account(settings.azure_devops).door()
    known = administration.projects(door)
    if choice.projects:
        projects = chosen(known, choice.projects)
    else:
        projects = known if choice.all_projects else hooks.subscribed(door, where, known)
    if not projects:
        raise UsageError(
            f"No project sends to {where.name} yet: `triage hooks install --all-projects`, or --project NAME."
        )
    changes = hooks.offered(door, hooks.CONNECTIONS)
    events = choice.events + ((changes,) if changes else ())
    return door, hooks.wanted(projects, where, events), "" if changes else _NO_CHANGES


def _as_json(step: hooks.Step) -> dict[str, str | None]:
    return {
        "project": step.wanted.project.name,
        "event": step.wanted.event.label,
        "did": step.kind,
        "reason": step.reason,
        "subscription": step.there.id if step.there else None,
    }
