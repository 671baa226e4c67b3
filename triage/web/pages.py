"""The pages a person reads, and the same as JSON under /api."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi import Path as PathParameter
from fastapi.templating import Jinja2Templates
from markdown_it import MarkdownIt
from markupsafe import Markup
from sqlmodel import Session, col, select

from triage import impact, jobs, record
from triage.db import (
    CLOSED,
    Delivery,
    Effect,
    FindingRow,
    Health,
    Incident,
    Job,
    TriagedRun,
    not_over,
    reader,
)
from triage.domain import Impact
from triage.jobs import State
from triage.publish import messages
from triage.web import connections
from triage.web.words import address, ago, ahead, sought

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from triage.config import Settings

_LIST_MAX = 100
_LATELY = 200
_BESIDE = 10  # of what stands beside the open incidents
# How triage keeps track; nobody else's business.
_INNER = {
    "fingerprint",
    "item_count",
    "item_finding",
    "run_count",
    "snapshot",
    "tellings",
    "told_finding",
}
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).disable("image")
_Number = Annotated[int, PathParameter(ge=0, le=2**31 - 1)]


def router(settings: Settings, engine: Engine) -> APIRouter:
    """Return the routes of pages and API."""
    soon_days = max(settings.expiry.warn_days)
    routes = APIRouter()
    templates = Jinja2Templates(directory=Path(__file__).parent / "templates")
    templates.env.filters["markdown"] = lambda line: Markup(_MARKDOWN.renderInline(line))  # noqa: S704 - html off
    templates.env.filters |= {"ago": ago, "ahead": ahead, "address": address}

    @routes.get("/")
    def inbox(request: Request) -> Response:
        return templates.TemplateResponse(
            request,
            "inbox.html",
            {
                "ailing": ailing(engine),
                "ending": connections.ending(engine, soon_days, _BESIDE),
                "incidents": incidents(engine),
                "over": over(engine),
                "runs": runs(engine),
                "troubled": troubled(engine),
            },
        )

    @routes.get("/incidents/{number}")
    def incident_page(request: Request, number: _Number) -> Response:
        return templates.TemplateResponse(request, "incident.html", {"incident": incident(engine, number)})

    @routes.get("/runs/{project}/{number}")
    def run_page(request: Request, project: str, number: _Number) -> Response:
        return templates.TemplateResponse(request, "run.html", {"run": run(engine, project, number)})

    @routes.get("/deliveries")
    def deliveries_page(request: Request) -> Response:
        return templates.TemplateResponse(request, "deliveries.html", {"deliveries": deliveries(engine)})

    @routes.get("/api/incidents")
    def incidents_json() -> list[dict[str, Any]]:
        return incidents(engine)

    @routes.get("/api/incidents/{number}")
    def incident_json(number: _Number) -> dict[str, Any]:
        return incident(engine, number)

    @routes.get("/api/runs")
    def runs_json() -> list[dict[str, Any]]:
        return runs(engine)

    @routes.get("/api/runs/{project}/{number}")
    def run_json(project: str, number: _Number) -> dict[str, Any]:
        return run(engine, project, number)

    @routes.get("/api/deliveries")
    def deliveries_json() -> list[dict[str, Any]]:
        return deliveries(engine)

    return routes


def incidents(engine: Engine) -> list[dict[str, Any]]:
    """Return the open incidents, the one seen last first, each with how many runs it broke."""
    with Session(reader(engine)) as session:
        query = (
            select(Incident).where(not_over()).order_by(col(Incident.last_seen_at).desc()).limit(_LIST_MAX)
        )
        return [_incident(row, but={"renewal"}) for row in session.exec(query)]


def over(engine: Engine) -> list[dict[str, Any]]:
    """Return the incidents that ended last."""
    with Session(reader(engine)) as session:
        # An index has the order in which they broke runs last, and by that the few that may have ended last.
        lately = (
            select(Incident.id)
            .where(Incident.state == CLOSED)
            .order_by(col(Incident.last_seen_at).desc())
            .limit(_LATELY)
        )
        query = (
            select(Incident)
            .where(col(Incident.id).in_(lately))
            .order_by(col(Incident.closed_at).desc().nulls_last(), col(Incident.id).desc())
            .limit(_BESIDE)
        )
        return [_incident(row, but={"renewal"}) for row in session.exec(query)]


def incident(engine: Engine, number: int) -> dict[str, Any]:
    """Return an incident with its findings and effects. Raises 404."""
    with Session(reader(engine)) as session:
        row = session.get(Incident, number)
        if row is None:
            raise HTTPException(404, f"There is no incident {number}.")
        findings = session.exec(
            select(FindingRow, TriagedRun)
            .join(TriagedRun, col(TriagedRun.id) == col(FindingRow.run_row))
            .where(FindingRow.incident_id == number)
            .order_by(col(FindingRow.id).desc())
            .limit(_LIST_MAX)
        ).all()
        effects = session.exec(select(Effect).where(Effect.incident_id == number).order_by(col(Effect.id)))
        return {
            **_incident(row),
            "renewal": json.loads(row.renewal),
            "again": _again(session, row),
            "has_connection_page": connections.is_known(session, row.connection_id),
            "will_fail_next": _next(row, [seen for _, seen in findings]),
            "findings": [
                {**_plain(found, but=_INNER), "run": _plain(seen, but=_INNER)} for found, seen in findings
            ],
            "effects": [_plain(each, but={"lease", "lease_until"}) for each in effects],
        }


def runs(engine: Engine) -> list[dict[str, Any]]:
    """Return the runs triaged last."""
    with Session(reader(engine)) as session:
        query = select(TriagedRun).order_by(col(TriagedRun.triaged_at).desc()).limit(_LIST_MAX)
        return [_plain(row, but=_INNER) for row in session.exec(query)]


def run(engine: Engine, project: str, number: int) -> dict[str, Any]:
    """Return what was concluded about a run, or that it waits; by project name or GUID. Raises 404."""
    project = sought(project)
    with Session(reader(engine)) as session:
        named = (TriagedRun.project_id == project.lower()) | (TriagedRun.project_name == project)
        row = session.exec(select(TriagedRun).where(TriagedRun.run_id == number, named)).first()
        if row is None:
            return _waiting(session, project, number)
        findings = session.exec(select(FindingRow).where(FindingRow.run_row == row.id))
        return {**_plain(row, but=_INNER), "findings": [_plain(each, but=_INNER) for each in findings]}


def deliveries(engine: Engine) -> list[dict[str, Any]]:
    """Return the events received last, also those that were of no use."""
    with Session(reader(engine)) as session:
        query = select(Delivery).order_by(col(Delivery.id).desc()).limit(_LIST_MAX)
        return [_plain(row) for row in session.exec(query)]


def troubled(engine: Engine) -> list[dict[str, Any]]:
    """Return the jobs that did not succeed so far, the newest first, each with its conclusion."""
    with Session(reader(engine)) as session:
        query = (
            select(Job)
            .where(col(Job.state).in_((State.RETRYABLE, State.DISCARDED, State.QUARANTINED)))
            .order_by(col(Job.id).desc())
            .limit(_LIST_MAX)
        )
        return [
            {**_plain(job), "about": jobs.about(job), "conclusion": _so_far(job)}
            for job in session.exec(query)
        ]


def ailing(engine: Engine) -> list[dict[str, Any]]:
    """Return the parts of triage that are not well."""
    with Session(reader(engine)) as session:
        return [_plain(row) for row in session.exec(select(Health).where(Health.state != "ok"))]


def _waiting(session: Session, project: str, number: int) -> dict[str, Any]:
    """Return what is known of a run that no worker has read yet. Raises 404."""
    spelt = col(Job.project).in_((project, project.lower()))
    newest = select(Job).where(Job.run_id == number, spelt).order_by(col(Job.id).desc()).limit(1)
    job = session.exec(newest).first()
    if job is None:
        raise HTTPException(404, f"triage has not been told of run {number} in {project}.")
    return {**_plain(job), "project_name": project, "conclusion": _so_far(job), "findings": []}


def _so_far(job: Job) -> str:
    match job.state:
        case State.AVAILABLE:
            return "Waiting for a worker."
        case State.RUNNING:
            return "Being triaged right now."
        case State.RETRYABLE:
            return f"Not triaged yet: {job.error} triage tries again at {job.available_at:%H:%M:%S} UTC."
        case State.DISCARDED | State.QUARANTINED:
            return f"Given up: {job.error}"
        case _:
            return job.outcome or "Nothing to do."


def _incident(row: Incident, but: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    return {**_plain(row, but=_INNER | but), "runs": row.run_count}


def _again(session: Session, row: Incident) -> str:
    """Return how often the credential has expired by now, Markdown; "" the first time and when it is over."""
    opened = record.opened_by(row) if row.state != CLOSED else None
    return messages.again(opened, record.earlier(session, row)) if opened else ""


def _next(row: Incident, broken: list[TriagedRun]) -> dict[str, Any]:
    opened = record.opened_by(row)
    failed = {
        (seen.project_id.lower(), seen.pipeline_id, "release" if "/release/" in seen.run_key else "build")
        for seen in broken
    }
    return impact.as_json(impact.without(opened.impact, failed) if opened else Impact())


def _plain(row: Any, but: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    values: dict[str, Any] = row.model_dump(mode="json", exclude=but)
    return values
