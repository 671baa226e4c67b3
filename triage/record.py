"""Remember runs, findings and incidents, and what their people have been told."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, func, select, update

from triage import acts, db, domain, jobs, plan, renewal
from triage.db import CLOSED, ENDING, OPEN, Effect, FindingRow, Incident, Job, TriagedRun, not_over, now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Engine

    from triage.domain import Finding, Run

_KNOWN_FOR = timedelta(hours=1)
_TOLD_AT_ONCE = 500  # runs of an incident that one telling looks at, the newest


def run(engine: Engine, seen: Run, *, logs_read: int, conclusion: str) -> None:
    """Keep what was concluded about a run; a later conclusion replaces it."""
    try:
        _run(engine, seen, logs_read, conclusion)
    except IntegrityError:  # another worker has just kept the same run
        _run(engine, seen, logs_read, conclusion)


def _run(engine: Engine, seen: Run, logs_read: int, conclusion: str) -> None:
    with Session(engine) as session, session.begin():
        _conclude(_run_row(session, seen), logs_read=logs_read, conclusion=conclusion)


def _conclude(row: TriagedRun, *, logs_read: int, conclusion: str) -> None:
    row.logs_read, row.conclusion, row.triaged_at = logs_read, conclusion, now()


def finding(
    engine: Engine, found: Finding, *, tag: str, title: str, fingerprint: str, policy: plan.Policy
) -> None:
    """Keep a finding in its incident, which is opened when this credential has none.

    Two workers that open an incident at once get the same one. The telling of its people is planned
    in the same transaction.
    """
    try:
        _finding(engine, found, tag, title, fingerprint, policy)
    except IntegrityError:  # another worker has just opened the incident or kept this finding
        _finding(engine, found, tag, title, fingerprint, policy)


def _finding(
    engine: Engine, found: Finding, tag: str, title: str, fingerprint: str, policy: plan.Policy
) -> None:
    with Session(engine) as session, session.begin():
        run_row = _run_row(session, found.run)
        # Its row is held until the end, so that a telling sees all of this or nothing.
        held = select(Incident).where(Incident.key == plan.incident_key(found)).with_for_update()
        incident = session.exec(held).first()
        if incident is None:
            over = _lately_closed(session, tag, found, policy)
            if over is not None and _failed_before(found, over):
                _join_closed(session, over, _finding_row(found, run_row, over.id))
                return
            incident = _incident(found, tag=tag, title=title) if over is None else over
            if over is not None:
                _open_again(session, over, found)
            session.add(incident)
            session.flush()
        if opened_by(incident) is None:
            incident.snapshot = _as_json(found)
        row = _finding_row(found, run_row, incident.id)
        row.fingerprint = fingerprint
        _join(session, incident, run_row, row, policy)


def again(
    engine: Engine, seen: Run, earlier: Sequence[FindingRow], *, conclusion: str, policy: plan.Policy
) -> bool:
    """Keep that a run failed as an earlier one did. False when an incident is no longer open.

    `earlier` are findings of open incidents whose fingerprints the run's timeline shows again.
    """
    with Session(engine) as session, session.begin():
        run_row = _run_row(session, seen)
        ids = sorted({row.incident_id for row in earlier if row.incident_id is not None})
        held = select(Incident).where(col(Incident.id).in_(ids), not_over()).with_for_update()
        open_now = {incident.id: incident for incident in session.exec(held.order_by(col(Incident.id)))}
        if len(open_now) < len(ids):
            session.rollback()
            return False
        _conclude(run_row, logs_read=0, conclusion=conclusion)
        for row in earlier:
            copy = FindingRow(**row.model_dump(exclude={"id", "found_at", "fingerprint", "log_url"}))
            copy.run_row, copy.found_at = run_row.id or 0, db.present()
            _join(session, open_now[row.incident_id], run_row, copy, policy)
    return True


def same_cause(engine: Engine, fingerprints: Sequence[str]) -> list[FindingRow] | None:
    """Return a finding of an open incident for each fingerprint, None when one is unknown.

    Only findings of runs that were read whole count, and those not for long: a pipeline may be changed
    to use another connection, whose credential has expired as well.
    """
    found = []
    with Session(db.reader(engine), expire_on_commit=False) as session:
        for fingerprint in dict.fromkeys(fingerprints):
            query = (
                select(FindingRow)
                .join(Incident, col(Incident.id) == col(FindingRow.incident_id))
                .where(
                    FindingRow.fingerprint == fingerprint,
                    FindingRow.found_at > db.present(-_KNOWN_FOR.total_seconds()),
                    not_over(),
                )
                .limit(1)
            )
            row = session.exec(query).first() if fingerprint else None
            if row is None:
                return None
            found.append(row)
    return found


def note(engine: Engine, found: Finding) -> None:
    """Keep a finding that opens no incident: a look-alike, a hint, an unproven pull request."""
    try:
        _note(engine, found)
    except IntegrityError:  # another worker has just kept the same run
        _note(engine, found)


def _note(engine: Engine, found: Finding) -> None:
    with Session(engine) as session, session.begin():
        run_row = _run_row(session, found.run)
        known = select(FindingRow).where(
            FindingRow.run_row == run_row.id, FindingRow.rule == found.match.rule
        )
        if session.exec(known).first() is None:
            session.add(_finding_row(found, run_row, None))


def begin_telling(engine: Engine, incident_id: int, number: int) -> None:
    """Let findings that come from now on plan another telling than this one."""
    with Session(engine) as session, session.begin():
        # Held also by one that is tried again: it sees whether somebody is just ending the incident.
        held = select(Incident).where(Incident.id == incident_id).with_for_update()
        incident = session.exec(held).first()
        if incident is not None and incident.tellings == number:
            incident.tellings = number + 1


def news(engine: Engine, incident_id: int, *, digest: int | None = None) -> tuple[Incident, plan.News] | None:
    """Return an incident with what its people have not been told, None when it has no finding to tell.

    With a `digest`, which spoke for it until now, all that an item of its own has to know.
    """
    with Session(db.reader(engine), expire_on_commit=False) as session:
        incident = session.get(Incident, incident_id)
        opened = opened_by(incident) if incident is not None else None
        if incident is None or opened is None:
            return None
        of_this = FindingRow.incident_id == incident_id
        newest = session.exec(select(func.max(FindingRow.id)).where(of_this)).one() or 0
        rows = session.exec(
            select(TriagedRun.snapshot)
            .join(FindingRow, col(FindingRow.run_row) == col(TriagedRun.id))
            .where(of_this, col(FindingRow.id) > incident.told_finding, TriagedRun.snapshot != "")
            .order_by(col(FindingRow.id).desc())
            .limit(_TOLD_AT_ONCE)
        ).all()
        pipelines = session.exec(
            select(TriagedRun.snapshot)
            .join(FindingRow, col(FindingRow.run_row) == col(TriagedRun.id))
            .where(
                of_this,
                col(FindingRow.id) > (0 if digest else incident.item_finding),
                col(FindingRow.is_first_of_pipeline),
                TriagedRun.snapshot != "",
            )
            .order_by(col(FindingRow.id))
        ).all()
        latest = session.exec(
            select(TriagedRun.snapshot)
            .join(FindingRow, col(FindingRow.run_row) == col(TriagedRun.id))
            .where(FindingRow.id == newest)
        ).one()
        return incident, plan.News(
            finding=opened,
            title=incident.title,
            runs=tuple(_runs(reversed(rows))),
            pipelines=tuple(_runs(pipelines)),
            count=incident.run_count,
            item_count=0 if digest else incident.item_count,
            item_at=None if digest else incident.item_at,
            latest=next(_runs([latest] if latest else []), opened.run),
            newest=newest,
            came_back=has_come_back(incident),
            since=_which_time(session, incident),
            earlier=earlier(session, incident) if digest or incident.work_item is None else (),
            digest=digest,
        )


def told(engine: Engine, incident_id: int, said: plan.News, *, work_item: bool) -> None:
    """Keep that an incident's people know its news; the work item's people only when it was written to."""
    values: dict[str, object] = {"told_finding": said.newest}
    if work_item:
        values |= {"item_finding": said.newest, "item_count": said.count, "item_at": db.present()}
    with Session(engine) as session, session.begin():
        session.exec(
            update(Incident)
            .where(col(Incident.id) == incident_id, col(Incident.told_finding) <= said.newest)
            .values(**values)
        )


def tell_later(engine: Engine, incident_id: int, at: datetime) -> None:
    """Plan another telling of an incident."""
    wait = at - db.clock(engine)
    with Session(engine) as session, session.begin():
        held = select(Incident).where(Incident.id == incident_id).with_for_update()
        jobs.put_telling(session, session.exec(held).one(), wait)


def open_incidents(engine: Engine, limit: int, *, connection_id: str = "") -> list[Incident]:
    """Return open incidents that nobody is being told of now, those longest not looked at first.

    Of all connections, or of one. Of one that a crash left ended in part nobody is told until somebody looks.
    """
    telling = (
        select(Job.id)
        .where(
            Job.incident_id == Incident.id,
            Job.kind == jobs.Kind.INCIDENT,
            col(Job.state).in_((jobs.State.AVAILABLE, jobs.State.RUNNING)),
            col(Job.available_at) <= db.present(),
        )
        .exists()
    )
    with Session(engine, expire_on_commit=False) as session:
        query = (
            select(Incident)
            .where(not_over(), (col(Incident.state) == ENDING) | ~telling)
            .order_by(col(Incident.checked_at).asc().nulls_first())
            .limit(limit)
        )
        if connection_id:
            query = query.where(Incident.connection_id == connection_id)
        return list(session.exec(query))


def stands_in_digest(engine: Engine, row: Incident) -> bool:
    """Return whether an incident's work item is a digest, which speaks for others as well."""
    with Session(engine) as session:
        return row.work_item is not None and not _has_item(session, row)


def opened_by(row: Incident) -> Finding | None:
    """Return the finding that opened an incident, None for one that another version of triage wrote."""
    try:
        return msgspec.json.decode(row.snapshot, type=domain.Finding) if row.snapshot else None
    except msgspec.DecodeError:
        return None


def broken_runs(engine: Engine, incident_id: int) -> tuple[Run, ...]:
    """Return the runs that an incident alone broke, the newest five hundred, the oldest first."""
    other = aliased(FindingRow)
    elsewhere = (
        select(other.id)
        .join(Incident, col(Incident.id) == col(other.incident_id))
        .where(other.run_row == TriagedRun.id, other.incident_id != incident_id, not_over())
        .exists()
    )
    with Session(engine) as session:
        rows = session.exec(
            select(TriagedRun.snapshot)
            .join(FindingRow, col(FindingRow.run_row) == col(TriagedRun.id))
            .where(FindingRow.incident_id == incident_id, TriagedRun.snapshot != "", ~elsewhere)
            .order_by(col(FindingRow.id).desc())
            .limit(_TOLD_AT_ONCE)
        ).all()
    return tuple(_runs(reversed(rows)))


def checked(engine: Engine, incident_id: int) -> None:
    """Keep that it was looked whether an incident is over."""
    with Session(engine) as session, session.begin():
        session.exec(update(Incident).where(col(Incident.id) == incident_id).values(checked_at=now()))


def begin_end(engine: Engine, incident_id: int, last_failed_at: datetime | None) -> Incident | None:
    """Hold back tellings while an incident is ended, and return it as it stands.

    None when it has failed again meanwhile, or while its people are just being told of it.
    """
    telling = select(Job.id).where(
        Job.incident_id == incident_id, Job.kind == jobs.Kind.INCIDENT, Job.state == jobs.State.RUNNING
    )
    with Session(engine, expire_on_commit=False) as session, session.begin():
        held = select(Incident).where(Incident.id == incident_id).with_for_update()
        incident = session.exec(held).one()
        if incident.state == CLOSED or incident.last_failed_at != last_failed_at:
            return None
        if incident.state == OPEN and session.exec(telling.limit(1)).first() is not None:
            return None
        incident.state = ENDING
    return incident


def keep_open(engine: Engine, incident_id: int) -> None:
    """Take back that an incident is being ended."""
    with Session(engine) as session, session.begin():
        ending = (col(Incident.id) == incident_id) & (col(Incident.state) == ENDING)
        session.exec(update(Incident).where(ending).values(state=OPEN))


def end(
    engine: Engine,
    incident_id: int,
    last_failed_at: datetime | None,
    *,
    reason: str,
    renewed_by: str = "",
    worked_at: datetime | None = None,
    by_person: bool = False,
) -> None:
    """Close an incident; one that has failed again meanwhile is open, and its people are told so."""
    with Session(engine) as session, session.begin():
        incident = session.exec(select(Incident).where(Incident.id == incident_id).with_for_update()).one()
        if incident.state == CLOSED:  # another worker has just ended it
            return
        if incident.last_failed_at != last_failed_at:
            _open_and_tell(session, incident, by_person=by_person)
            return
        incident.state, incident.closed_at = CLOSED, now()
        incident.closed_reason, incident.renewed_by = reason, renewed_by
        incident.worked_at, incident.closed_by_person = worked_at, by_person
        incident.key = f"closed:{incident.id}:{incident.key}"


def end_begun(engine: Engine, row: Incident) -> datetime | None:
    """Return when triage last set about telling the work item that an incident is over.

    None when it has not since the incident was opened, or opened again.
    """
    with Session(db.reader(engine)) as session:
        begun = (
            select(Effect.intended_at)
            .where(
                Effect.incident_id == row.id,
                col(Effect.key).startswith(f"item-end:{row.id}:"),
                col(Effect.intended_at) > (row.reopened_at or row.opened_at),
            )
            .order_by(col(Effect.intended_at).desc())
        )
        return session.exec(begun.limit(1)).first()


def has_found_since(engine: Engine, row: Incident, moment: datetime) -> bool:
    """Return whether triage has read of a run that an incident broke since a moment."""
    with Session(db.reader(engine)) as session:
        found = select(FindingRow.id).where(
            FindingRow.incident_id == row.id, col(FindingRow.found_at) > moment
        )
        return session.exec(found.limit(1)).first() is not None


def open_again(engine: Engine, incident_id: int) -> None:
    """Open an incident that had been ended in part when it failed again; its people are told so."""
    with Session(engine) as session, session.begin():
        incident = session.exec(select(Incident).where(Incident.id == incident_id).with_for_update()).one()
        if incident.state == ENDING:
            _open_and_tell(session, incident, by_person=False)


def _open_and_tell(session: Session, incident: Incident, *, by_person: bool) -> None:
    incident.state = OPEN
    # What a person has closed stays so.
    incident.reopened_at = None if by_person else db.present()
    jobs.put_telling(session, incident, timedelta(0))


def earlier(session: Session, row: Incident) -> tuple[acts.Earlier, ...]:
    """Return when the same credential had to be renewed before, the last time first."""
    query = (
        select(Incident)
        .where(Incident.tag == row.tag, Incident.state == CLOSED, Incident.id != row.id)
        .order_by(col(Incident.id).desc())
        .limit(acts.EARLIER_MAX)
    )
    return tuple(
        acts.Earlier(_began(each), each.worked_at or each.closed_at, each.renewed_by, each.work_item)
        for each in session.exec(query)
    )


def _began(row: Incident) -> datetime:
    """Return when an incident's first run failed; triage may have heard of it late."""
    opened = opened_by(row)
    ended = opened.run.finished_at if opened is not None else None
    return min(row.opened_at, ended) if ended is not None else row.opened_at


def _has_item(session: Session, row: Incident) -> bool:
    filed = select(Effect.id).where(
        Effect.key == f"item:{row.id}", Effect.state == "done", Effect.remote_id == str(row.work_item)
    )
    return session.exec(filed.limit(1)).first() is not None


def _lately_closed(session: Session, tag: str, found: Finding, policy: plan.Policy) -> Incident | None:
    """Return the incident of a credential that a run failed of soon after it was over, its row held."""
    query = (
        select(Incident)
        .where(Incident.tag == tag, Incident.state == CLOSED)
        .order_by(col(Incident.id).desc())
        .with_for_update()
    )
    over = session.exec(query.limit(1)).first()
    return over if over is not None and _since(found, over) <= policy.reopen_within else None


def _since(found: Finding, over: Incident) -> timedelta:
    """Return for how long a credential had worked when a step failed, by Azure DevOps' clock where it tells.

    triage may notice both ends of that time late.
    """
    if over.worked_at is not None and found.failed_at is not None:
        return found.failed_at - over.worked_at
    return now() - (over.closed_at or now())


def _failed_before(found: Finding, over: Incident) -> bool:
    """Return whether a step of which triage only reads now had failed before the credential worked again."""
    return found.failed_at is not None and over.worked_at is not None and found.failed_at <= over.worked_at


def _join_closed(session: Session, over: Incident, row: FindingRow) -> None:
    """Add a finding to an incident that stays closed; nobody is told of it any more."""
    known = select(FindingRow.id).where(FindingRow.run_row == row.run_row, FindingRow.incident_id == over.id)
    if session.exec(known.limit(1)).first() is None:
        over.run_count += 1
        session.add(row)


def _open_again(session: Session, over: Incident, found: Finding) -> None:
    over.key, over.state = plan.incident_key(found), OPEN
    # What a person has closed stays so; they are told once that it goes on.
    over.reopened_at = None if over.closed_by_person else db.present()
    over.closed_at, over.closed_reason = None, ""
    over.snapshot = _as_json(found)
    if over.work_item is not None and not _has_item(session, over):
        over.work_item = over.work_item_url = over.item_at = None  # it was a digest's


def work_item(engine: Engine, row: Incident, said: plan.News, *, number: int, url: str, is_own: bool) -> None:
    """Keep which work item stands for an incident, and what it was filed with.

    In one: a telling that fails after the filing is done again, and files nothing then. A worker that
    stood still meanwhile takes back nothing of what another has told since. Of its `own` one, which is no
    digest, it is to be checked later whether it was filed twice; nobody would plan that afterwards.
    """
    assert row.id is not None  # noqa: S101 - read from the database
    with Session(engine) as session, session.begin():
        session.exec(
            update(Incident)
            .where(col(Incident.id) == row.id, col(Incident.item_finding) <= said.newest)
            .values(
                work_item=number,
                work_item_url=url,
                item_finding=said.newest,
                item_count=said.count,
                item_at=db.present(),
            )
        )
        if is_own:
            jobs.put_merge(session, row.id, row.project_id)


def move(engine: Engine, row: Incident, *, number: int, url: str) -> None:
    """Keep that another work item than the one that was filed stands for an incident."""
    with Session(engine) as session, session.begin():
        # The incident first, as everywhere.
        for table, of_this, values in (
            (Incident, col(Incident.id) == row.id, {"work_item": number, "work_item_url": url}),
            (Effect, col(Effect.key) == f"item:{row.id}", {"remote_id": str(number), "url": url}),
        ):
            session.exec(update(table).where(of_this).values(**values))


def which_time(engine: Engine, row: Incident) -> str:
    """Return what tells this time that a credential ended from those before, "" the first time.

    The same run may be run again and fail again each time.
    """
    with Session(db.reader(engine)) as session:
        return _which_time(session, row)


def _which_time(session: Session, row: Incident) -> str:
    if row.reopened_at is not None:
        return row.reopened_at.isoformat()
    before = select(Incident.id).where(Incident.tag == row.tag, col(Incident.id) < row.id).limit(1)
    return row.opened_at.isoformat() if session.exec(before).first() is not None else ""


def has_come_back(incident: Incident) -> bool:
    """Return whether an incident's work item has not been told yet that it is open again."""
    again = incident.reopened_at
    return again is not None and (incident.item_at is None or again > incident.item_at)


def _is_news_again(incident: Incident, run_row: TriagedRun, known: FindingRow) -> bool:
    """Return whether a run failed once more, run again after the credential had worked."""
    if incident.state == ENDING:
        return True
    again, worked, ended = incident.reopened_at, incident.worked_at, run_row.finished_at
    if again is None or known.found_at >= again:
        return False
    return worked is None or ended is None or ended > worked


def _join(
    session: Session, incident: Incident, run_row: TriagedRun, row: FindingRow, policy: plan.Policy
) -> None:
    """Add a finding to an incident whose row is held, and plan the telling of it."""
    assert incident.id is not None  # noqa: S101 - flushed
    incident.last_seen_at = now()
    ended = [moment for moment in (incident.last_failed_at, run_row.finished_at) if moment]
    incident.last_failed_at = max(ended, default=now())
    of_run = session.exec(
        select(FindingRow).where(FindingRow.run_row == run_row.id, FindingRow.incident_id == incident.id)
    ).all()
    known = next((each for each in of_run if each.rule == row.rule), None)
    if known is not None:
        if not _is_news_again(incident, run_row, known):
            return
        known.incident_id = None  # its place is taken by one that is not told of yet
        session.flush()
    of_pipeline = select(FindingRow.id).where(
        FindingRow.incident_id == incident.id, FindingRow.pipeline_id == run_row.pipeline_id
    )
    was_first = known is not None and known.is_first_of_pipeline
    row.is_first_of_pipeline = was_first or session.exec(of_pipeline.limit(1)).first() is None
    if not of_run:
        incident.run_count += 1
    session.add(row)
    if known is not None:
        session.flush()  # before, as SQLite would give the number away again
        session.delete(known)
    is_news = row.is_first_of_pipeline or run_row.pull_request is not None
    jobs.put_telling(session, incident, plan.telling_wait(incident.run_count, is_news=is_news, policy=policy))


def _run_row(session: Session, seen: Run) -> TriagedRun:
    """Return the row of a run, flushed; made when there is none."""
    # Held until the end: two jobs of one run may be worked on at once. Always before an incident's row.
    held = select(TriagedRun).where(TriagedRun.run_key == str(seen.ref)).with_for_update()
    row = session.exec(held).first()
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
    row.result, row.finished_at = seen.result, seen.finished_at
    row.snapshot = _as_json(seen)
    session.flush()
    return row


def _runs(snapshots: Iterable[str]) -> Iterator[Run]:
    """Yield the runs of snapshots, each once."""
    for snapshot in dict.fromkeys(snapshots):
        with suppress(msgspec.DecodeError):  # another version of triage wrote it
            yield msgspec.json.decode(snapshot, type=domain.Run)


def _as_json(value: Run | Finding) -> str:
    """Return a snapshot, without what may be private: a run's queued variables, and the step's raw errors."""
    if isinstance(value, domain.Run):
        return msgspec.json.encode(replace(value, variables={})).decode()
    evidence = value.evidence
    record = replace(evidence.record, issues=()) if evidence.record else None
    kept = replace(value, run=replace(value.run, variables={}), evidence=replace(evidence, record=record))
    return msgspec.json.encode(kept).decode()


def _incident(found: Finding, *, tag: str, title: str) -> Incident:
    connection = found.connection
    return Incident(
        key=plan.incident_key(found),
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
        opened_at=db.present(),
    )


def _finding_row(found: Finding, run_row: TriagedRun, incident_id: int | None) -> FindingRow:
    record = found.evidence.record
    assert run_row.id is not None  # noqa: S101 - flushed
    return FindingRow(
        run_row=run_row.id,
        incident_id=incident_id,
        pipeline_id=run_row.pipeline_id,
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
        found_at=db.present(),
    )


def _log_url(found: Finding) -> str:
    """Return the line's own address on the run's page; only a task's log has one."""
    record, page = found.evidence.record, found.run.url
    if found.run.ref.kind == "release":
        return page  # of the environment; its lines have no address
    if found.evidence.source != "log" or record is None or record.parent_id is None or "?" not in page:
        return ""
    return f"{page}&view=logs&j={record.parent_id}&t={record.id}&l={found.match.line}"
