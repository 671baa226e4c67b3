"""A check's outcome, and how outcomes are printed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Sequence


class Level(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    level: Level
    told: str
    fix: str = ""  # the next step; "" when all is well


def ok(name: str, told: str) -> Check:
    """Return a check that found nothing wrong."""
    return Check(name, Level.OK, told)


def warning(name: str, told: str, fix: str) -> Check:
    """Return a check whose finding does not stop triage."""
    return Check(name, Level.WARNING, told, fix)


def error(name: str, told: str, fix: str) -> Check:
    """Return a check whose finding stops triage, or a part of it."""
    return Check(name, Level.ERROR, told, fix)


def exit_code(found: Sequence[Check]) -> int:
    """Return 0 when all is well, 1 when there are warnings only, 2 when something does not work."""
    levels = {each.level for each in found}
    return 2 if Level.ERROR in levels else int(Level.WARNING in levels)


def show(found: Sequence[Check]) -> None:
    """Print the checks for people."""
    out = Console(highlight=False, soft_wrap=True)
    colours = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}
    for each in found:
        out.print(f"[{colours[each.level]}]{each.level:8}[/]{escape(each.name)}: {escape(each.told)}")
        if each.fix:
            out.print(f"        [dim]fix:[/] {escape(each.fix)}")
    counts = {level: sum(each.level is level for each in found) for level in Level}
    warnings, errors = _count(counts[Level.WARNING], "warning"), _count(counts[Level.ERROR], "error")
    out.print(f"{counts[Level.OK]} fine, {warnings}, {errors}.")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def some(names: Sequence[str]) -> str:
    """Return some of many names, as they read in a sentence."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"  # noqa: PLR2004
