"""Which inputs of which task name a service connection (condensed from the tasks' own definitions)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triage.domain import Task

_SCRIPTS = {
    "d9bafed4-0b18-4f58-968d-86655b4d2ce9",  # CmdLine
    "6c731c3c-3c68-459a-a5c9-bde6e6595b5b",  # Bash
    "e213ff0f-5d5c-4791-802d-52ea3e7be1f1",  # PowerShell
    "bfc8bf76-e7ac-4a8c-9a55-a944a9f632fd",  # BatchScript
}
CHECKOUT = "6d15af64-176c-496d-b583-fd2ae21d4df4"


@dataclass(frozen=True)
class Input:
    """An input that names a connection."""

    names: tuple[str, ...]  # its name and aliases, lower case
    type: str  # of the connection, lower case; "" when any
    multi: bool  # a comma list


def inputs(task: Task) -> tuple[Input, ...]:
    """Return the inputs of a task that name connections; none for scripts and unknown tasks."""
    known = _table().get(task.id.lower())
    if known is None:
        return ()
    majors = known["majors"]
    listed = majors.get(task.major) or majors.get("*") or [each for one in majors.values() for each in one]
    return tuple(Input(tuple(each["names"]), each["type"], each["multi"]) for each in listed)


def is_script(task: Task | None) -> bool:
    """Return True for tasks that run whatever the repository holds."""
    return task is not None and task.id.lower() in _SCRIPTS


def federation(task: Task) -> str:
    """Return what Microsoft's table says of federation for this version: "Y", advice, or ""."""
    known = _table().get(task.id.lower()) or {}
    return str(known.get("federation", {}).get(task.major, ""))


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(
        files("triage").joinpath("task_inputs.json").read_text(encoding="utf-8")
    )
    return table
