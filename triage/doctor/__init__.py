"""`triage doctor`: every part of a set-up looked at, each with its fix. Writes nothing anywhere."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from triage import config
from triage.doctor import here, organisation
from triage.doctor.check import Check, Level, error, exit_code, show
from triage.errors import TriageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triage.config import Settings

__all__ = ["Check", "Level", "examine", "exit_code", "run", "show"]


def run(form: Literal["text", "json"]) -> int:
    """Examine the present settings and print what was found. Returns the exit code."""
    try:
        settings = config.load()
    except TriageError as wrong:
        found = [
            error("settings", str(wrong), "Correct what is named; deploy/README.md lists every setting.")
        ]
    else:
        found = list(examine(settings))
    if form == "json":
        print(json.dumps([asdict(each) for each in found], indent=2))  # noqa: T201 - the command's output
    else:
        show(found)
    return exit_code(found)


def examine(settings: Settings) -> Iterator[Check]:
    """Look at everything, this machine first and what lies outside last."""
    yield from here.examine(settings)
    yield from organisation.examine(settings)
