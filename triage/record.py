"""Remember runs, findings, incidents and effects, so that nothing is done twice."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select, update

from triage import renewal
from triage.db import Effect, FindingRow, Incident, TriagedRun, now
from triage.errors import Snooze

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

    from triage.domain import Finding, Run

_EFFECT_LEASE = timedelta(seconds=180)  # longer than any one act on Azure DevOps may take
_BUSY_SECONDS = 2.0


@dataclass(frozen=True)
class Recorded:
    """What the database knows of a finding's incident, at the moment of recording."""

    incident_id: int
    incident_tag: str
    work_item: int | None
    first_of_pipeline: bool  # no earlier run of this pipeline belongs to the incident


@dataclass
class Intent:
    """An effect being carried out; set what came of it before the `with` ends."""

    attempts: int  # 1 the first time; more: an earlier attempt may have done it
    done: bool
    remote_id: str | None = None
    url: str | None = None
    detail: str = ""


def run(engine: Engine, seen: Run, *, logs_read: int, conclusion: str) -> None:
    """Keep what was concluded about a run; a later conclusion replaces it."""
    with Session(engine) as session, session.begin():
        row = _run_row(session, seen)
        row.result, row.finished_at = seen.result, seen.finished_at
        row.logs_read, row.conclusion, row.triaged_at = logs_read, conclusion, now()


def finding(engine: Engine, found: Finding, *, key: str, tag: str, title: str) -> Recorded:
    """Keep a finding in its incident, which is opened when this credential has none.

    `key` says which credential; two workers that open its incident at once get the same one.
    """
    try:
        return _finding(engine, found, key=key, tag=tag, title=title)
    except IntegrityError:  # another worker has just opened the incident or kept this finding
        return _finding(engine, found, key=key, tag=tag, title=title)


def _finding(engine: Engine, found: Finding, *, key: str, tag: str, title: str) -> Recorded:
    with Session(engine) as session, session.begin():
        run_row = _run_row(session, found.run)
        incident = session.exec(select(Incident).where(Incident.key == key)).first()
        if incident is None:
            incident = _incident(found, key=key, tag=tag, title=title)
            session.add(incident)
        incident.last_seen_at = now()
        session.flush()
        assert run_row.id is not None  # noqa: S101 - flushed
        assert incident.id is not None  # noqa: S101 - flushed
        first = not _pipeline_seen(session, incident.id, found.run.pipeline_id, run_row.id)
        known = select(FindingRow).where(
            FindingRow.run_row == run_row.id,
            FindingRow.incident_id == incident.id,
            FindingRow.rule == found.match.rule,
        )
        if session.exec(known).first() is None:
            session.add(_finding_row(found, run_row.id, incident.id))
        return Recorded(incident.id, incident.tag, incident.work_item, first)


def note(engine: Engine, found: Finding) -> None:
    """Keep a finding that opens no incident: a look-alike, a hint, an unproven pull request."""
    with Session(engine) as session, session.begin():
        run_row = _run_row(session, found.run)
        session.flush()
        assert run_row.id is not None  # noqa: S101 - flushed
        known = select(FindingRow).where(
            FindingRow.run_row == run_row.id, FindingRow.rule == found.match.rule
        )
        if session.exec(known).first() is None:
            session.add(_finding_row(found, run_row.id, None))


@contextmanager
def intent(
    engine: Engine,
    *,
    key: str,
    kind: str,
    worker: str,
    run_key: str = "",
    incident_id: int | None = None,
    repeated: bool = False,
) -> Iterator[Intent]:
    """Write down that something is about to be done, let it be done, write down what came of it.

    The intent is committed before the body runs, so that a crash leaves it to be found again.
    A `repeated` effect is done again by each run, but by one worker at a time. Raises Snooze while
    another worker is at the same effect.
    """
    _write_down(engine, key=key, kind=kind, run_key=run_key, incident_id=incident_id)
    effect = _take(engine, key=key, kind=kind, worker=worker, repeated=repeated)
    doing = Intent(
        attempts=effect.attempts,
        done=effect.state == "done" and not repeated,
        remote_id=effect.remote_id,
        url=effect.url,
        detail=effect.detail,
    )
    if doing.done:
        yield doing
        return
    try:
        yield doing
    except BaseException:
        _settle(engine, key, worker, lease=None, lease_until=None)
        raise
    _settle(
        engine,
        key,
        worker,
        state="done",
        done_at=now(),
        lease=None,
        lease_until=None,
        remote_id=doing.remote_id,
        url=doing.url,
        detail=doing.detail,
    )


def work_item(engine: Engine, incident_id: int, *, number: int, url: str) -> None:
    """Keep which work item stands for an incident."""
    with Session(engine) as session, session.begin():
        session.exec(
            update(Incident)
            .where(col(Incident.id) == incident_id)
            .values(work_item=number, work_item_url=url)
        )


def _write_down(engine: Engine, *, key: str, kind: str, run_key: str, incident_id: int | None) -> None:
    """Commit the intent, unless it is there already."""
    try:
        with Session(engine) as session, session.begin():
            if session.exec(select(Effect).where(Effect.key == key)).first() is None:
                session.add(Effect(key=key, kind=kind, run_key=run_key, incident_id=incident_id))
    except IntegrityError:
        pass  # another worker wrote the same intent first


def _take(engine: Engine, *, key: str, kind: str, worker: str, repeated: bool) -> Effect:
    """Lease an effect that is still to be done."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        free = (col(Effect.lease).is_(None)) | (col(Effect.lease_until) < now()) | (Effect.lease == worker)
        to_do = sa.true() if repeated else col(Effect.state) != "done"
        session.exec(
            update(Effect)
            .where(col(Effect.key) == key, to_do, free)
            .values(lease=worker, lease_until=now() + _EFFECT_LEASE, attempts=Effect.attempts + 1)
        )
        effect = session.exec(select(Effect).where(Effect.key == key)).one()
        if (repeated or effect.state != "done") and effect.lease != worker:
            raise Snooze(f"Another worker is at it already: {kind}.", _BUSY_SECONDS)
        return effect


def _settle(engine: Engine, key: str, worker: str, **values: object) -> None:
    with Session(engine) as session, session.begin():
        session.exec(
            update(Effect).where(col(Effect.key) == key, col(Effect.lease) == worker).values(**values)
        )


def _run_row(session: Session, seen: Run) -> TriagedRun:
    row = session.exec(select(TriagedRun).where(TriagedRun.run_key == str(seen.ref))).first()
    if row is None:
        row = TriagedRun(
            run_key=str(seen.ref),
            project_id=seen.project_id,
            project_name=seen.project_name,
            run_id=seen.ref.id,
            number=seen.number,
            pipeline_id=seen.pipeline_id,
            pipeline_name=seen.pipeline_name,
            result=seen.result,
            url=seen.url,
            pull_request=seen.pull_request,
            finished_at=seen.finished_at,
        )
        session.add(row)
        session.flush()
    return row


def _pipeline_seen(session: Session, incident_id: int, pipeline_id: int, but: int) -> bool:
    query = (
        select(FindingRow.id)
        .join(TriagedRun, col(TriagedRun.id) == col(FindingRow.run_row))
        .where(
            FindingRow.incident_id == incident_id, TriagedRun.pipeline_id == pipeline_id, TriagedRun.id != but
        )
    )
    return session.exec(query).first() is not None


def _incident(found: Finding, *, key: str, tag: str, title: str) -> Incident:
    connection = found.connection
    return Incident(
        key=key,
        tag=tag,
        project_id=found.run.project_id,
        project_name=found.run.project_name,
        credential=found.match.credential,
        verdict=found.match.verdict.value,
        confidence=found.match.confidence.value,
        title=title,
        connection_id=connection.id if connection else None,
        connection_name=connection.name if connection else None,
        connection_type=connection.type if connection else None,
        connection_url=connection.url if connection else None,
        owner=found.owner.assignee or found.owner.team,
        owner_reason=found.owner.reason,
        recipe=found.recipe.id,
        renewal=json.dumps(renewal.as_json(found.recipe)),
    )


def _finding_row(found: Finding, run_row: int, incident_id: int | None) -> FindingRow:
    record = found.evidence.record
    return FindingRow(
        run_row=run_row,
        incident_id=incident_id,
        rule=found.match.rule,
        credential=found.match.credential,
        verdict=found.match.verdict.value,
        confidence=found.match.confidence.value,
        step=record.name if record else "",
        task=str(record.task) if record and record.task else "",
        log_id=record.log_id if record else None,
        line=found.match.line,
        log_url=_log_url(found),
        excerpt=found.match.excerpt,
        link_method=found.attribution.method.value,
        link_reason=found.attribution.reason,
        owner=found.owner.assignee or found.owner.team,
        owner_method=found.owner.method.value,
        owner_reason=found.owner.reason,
        recipe=found.recipe.id,
    )


def _log_url(found: Finding) -> str:
    """Return the line's own address on the run's page; only a task's log has one."""
    record, page = found.evidence.record, found.run.url
    if found.run.ref.kind == "release":
        return page  # of the environment; its lines have no address
    if found.evidence.source != "log" or record is None or record.parent_id is None or "?" not in page:
        return ""
    return f"{page}&view=logs&j={record.parent_id}&t={record.id}&l={found.match.line}"
