"""Values of pipeline variables, as far as they can be known without running anything."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from triage.domain import Run

# $(name), ${{ variables.name }}, ${{ variables['name'] }}, $[variables.name]; each with dots in its name.
_REFERENCE = re.compile(
    r"\$\(\s*([\w.-]+)\s*\)"
    r"|\$\{\{\s*variables(?:\.([\w.-]+)|\[\s*'([^']+)'\s*\])\s*\}\}"
    r"|\$\[\s*variables(?:\.([\w.-]+)|\[\s*'([^']+)'\s*\])\s*\]"
)
_DEPTH = 5  # variables made of variables


def expand(text: str, lookup: Callable[[str], str | None]) -> str:
    """Return a text with its variables put in; a variable that nobody knows stays as it is written.

    `lookup` takes a name in lower case.
    """

    def value(found: re.Match[str]) -> str:
        name = next(each for each in found.groups() if each)
        known = lookup(name.lower())
        return found[0] if known is None else known

    for _ in range(_DEPTH):
        expanded = _REFERENCE.sub(value, text)
        if expanded == text:
            break
        text = expanded
    return text


def is_open(text: str) -> bool:
    """Return True for a text in which a variable or expression is still to be filled in."""
    return "$(" in text or "${{" in text or "$[" in text


def predefined(run: Run) -> dict[str, str]:
    """Return what Azure DevOps itself sets, of use in a connection's name."""
    branch = run.source_branch
    return {
        "build.sourcebranch": branch,
        "build.sourcebranchname": branch.rsplit("/", 1)[-1],
        "build.definitionname": run.pipeline_name,
        "build.repository.name": run.repository_name or "",
        "system.teamproject": run.project_name,
        "system.teamprojectid": run.project_id,
    }
