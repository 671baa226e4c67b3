"""Find failed runs that no event told of: Azure DevOps drops events while a hook is on probation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, select

from triage import jobs
from triage.db import Cursor, Delivery, clock, reader
from triage.errors import AccessRefused, Cancel, RetryLater, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Engine

    from triage.azdo import Door
    from triage.config import Sweep as SweepSettings

log = structlog.get_logger()

_OVERLAP = timedelta(minutes=10)  # a run may be listed after others that ended later
_DAY = timedelta(days=1)
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Swept:
    """What a sweep found."""

    projects: int
    failed: int  # runs
    missed: int  # of which no event told
    refused: int = 0  # projects that triage may not look at

    def __str__(self) -> str:
        """Return it as one sentence."""
        where = "1 project" if self.projects == 1 else f"{self.projects} projects"
        refused = f" {self.refused} projects may not be looked at: Build (read)." if self.refused else ""
        found = f"{self.failed} failed runs, of which {self.missed} were not known."
        return f"Looked at {where}: {found}{refused}"


def round_of(door: Door, engine: Engine, settings: SweepSettings, keep: timedelta = timedelta(0)) -> Swept:
    """Sweep as the settings say. What triage has kept for `keep` it may have forgotten; 0: it never does."""
    return sweep(
        door,
        engine,
        first=timedelta(hours=settings.lookback_hours),
        grace=timedelta(seconds=settings.grace_seconds),
        only=settings.projects,
        keep=keep,
    )


def sweep(
    door: Door,
    engine: Engine,
    *,
    since: datetime | None = None,
    first: timedelta,
    grace: timedelta,
    only: Sequence[str] = (),
    keep: timedelta = timedelta(0),
) -> Swept:
    """Queue each project's failed runs since its last sweep, or since a time; `first` goes for a new project.

    A run that ended within `grace` is left for its event. A project's cursor is kept after its runs
    are, so that what a crash cuts off is swept again. Raises UsageError for a project that is not there,
    RetryLater when some could not be swept now; the others were.
    """
    until = clock(engine) - grace
    known_from = until - keep + _DAY if keep else _NEVER  # what ended before may have been forgotten
    failed = missed = refused = 0
    faults: list[str] = []
    cursors = _cursors(engine)
    projects = _chosen(door.projects(), only)
    # Those longest not swept first: a sweep that is cut off does not leave out the same ones each time.
    for project_id, name in sorted(projects, key=lambda each: cursors.get(each[0], _NEVER)):
        begin = since or cursors.get(project_id) or until - first
        try:
            for run in door.failed_runs(project_id, max(begin - _OVERLAP, known_from), until):
                failed += 1
                marker = str(int(run.finished_at.timestamp())) if run.finished_at else ""
                if jobs.put(engine, run.ref, marker=marker):
                    missed += 1
                    _note(engine, str(run.ref))
        except (Cancel, AccessRefused) as refusal:  # of this one; the others are swept
            refused += 1
            log.warning("a project may not be swept", project=name, reason=str(refusal))
            continue
        except RetryLater as fault:
            if door.gate.closed_for()[0] > 0:  # Azure DevOps itself is away
                raise
            faults.append(f"{name}: {fault}")
            log.warning("a project could not be swept; the others are", project=name, reason=str(fault))
            continue
        _keep(engine, project_id, until)
    if faults:
        more = f" (and {len(faults) - 1} more)" if faults[1:] else ""
        raise RetryLater(f"A project could not be swept: {faults[0]}{more}")
    if projects and refused == len(projects):
        raise AccessRefused("Azure DevOps lets triage sweep no project. It needs Build (read) in each.")
    return Swept(len(projects), failed, missed, refused)


def _chosen(projects: Sequence[tuple[str, str]], only: Sequence[str]) -> list[tuple[str, str]]:
    """Return the projects to look at. Raises UsageError for a name that none has."""
    if not only:
        return list(projects)
    spelt = {key.lower(): project for project in projects for key in project}
    unknown = [name for name in only if name.lower() not in spelt]
    if unknown:
        raise UsageError(
            f"There is no project {', '.join(unknown)} that triage's token may see; check the name in "
            "sweep.projects or --project."
        )
    return [spelt[name.lower()] for name in only]


def _cursors(engine: Engine) -> dict[str, datetime]:
    """Return how far each project has been swept."""
    with Session(reader(engine)) as session:
        return {row.project_id: row.swept_until for row in session.exec(select(Cursor))}


def _keep(engine: Engine, project_id: str, until: datetime) -> None:
    try:
        _set(engine, project_id, until)
    except IntegrityError:  # another sweep has just kept the project's first
        _set(engine, project_id, until)


def _set(engine: Engine, project_id: str, until: datetime) -> None:
    with Session(engine) as session, session.begin():
        row = session.get(Cursor, project_id)
        if row is None:
            session.add(Cursor(project_id=project_id, swept_until=until))
        elif row.swept_until < until:
            row.swept_until = until


def _note(engine: Engine, run_key: str) -> None:
    with Session(engine) as session, session.begin():
        session.add(
            Delivery(source="sweep", outcome="queued", reason="No event told of this run.", run_key=run_key)
        )
