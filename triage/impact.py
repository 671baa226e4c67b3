"""Which other pipelines a connection's failed credential breaks next: those that used it lately."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from triage.db import now
from triage.domain import Impact, Pipeline
from triage.errors import AccessRefused, Cancel, RetryLater

if TYPE_CHECKING:
    from triage.azdo import Door, Use
    from triage.domain import Connection, Run

_DAYS = 90
_NAMED = 10
_MAX_AGE = 3600.0  # which pipelines use a connection changes slowly
_TOP, _PAGES = 50, 4  # as linking asks, so that one answer serves both
_KINDS: dict[str, Literal["build", "release"]] = {"build": "build", "release": "release"}


def find(door: Door, run: Run, connection: Connection | None) -> Impact:
    """Return the pipelines besides the run's own that used a connection in the last 90 days.

    A history that cannot be read makes triage know less, not fail.
    """
    if connection is None:
        return Impact()
    try:
        uses = door.execution_history(run.project_id, connection.id, max_age=_MAX_AGE, top=_TOP, pages=_PAGES)
    except (AccessRefused, Cancel, RetryLater):
        return Impact(is_whole=False)
    since = (run.finished_at or now()) - timedelta(days=_DAYS)
    late = [use for use in uses if use.finished_at is None or use.finished_at >= since]
    others = dict.fromkeys(_key(use, run) for use in late if use.definition_id and _kind(use))
    others.pop((run.project_id.lower(), run.pipeline_id, run.ref.kind), None)
    names = {_key(use, run): use.definition_name for use in reversed(late)}
    pipelines = tuple(
        Pipeline(key[0], key[1], names[key], door.pipeline_url(*key), key[2]) for key in list(others)[:_NAMED]
    )
    is_whole = len(uses) < _TOP * _PAGES or len(late) < len(uses)
    return Impact(pipelines, len(others) - len(pipelines), is_whole)


def without(impact: Impact, failed: set[tuple[str, int, str]]) -> Impact:
    """Return an impact without the pipelines that failed by now: project, number and kind."""
    left = tuple(each for each in impact.pipelines if (each.project_id, each.id, each.kind) not in failed)
    return replace(impact, pipelines=left)


def others(impact: Impact) -> str:
    """Return how many more there are besides those named, in words; "" when these are all."""
    if impact.is_whole:
        return f"{impact.more} more" if impact.more else ""
    return f"at least {impact.more} more" if impact.more else "perhaps some more"


def as_json(impact: Impact) -> dict[str, Any]:
    """Return an impact as pages and `triage explain` tell it."""
    return {
        "pipelines": [{"name": each.name, "url": each.url} for each in impact.pipelines],
        "more": impact.more,
        "is_whole": impact.is_whole,
        "others": others(impact),
    }


def _kind(use: Use) -> Literal["build", "release"] | None:
    return _KINDS.get(use.plan_type.lower())


def _key(use: Use, run: Run) -> tuple[str, int, Literal["build", "release"]]:
    return use.project_id or run.project_id.lower(), use.definition_id, _kind(use) or "build"
