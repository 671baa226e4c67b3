"""2 store, claim: what waits to be done, in the database. There is no leader and no other queue."""

from __future__ import annotations

import random
import uuid
from enum import StrEnum
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, func, select, update

from triage.db import Effect, Job, now, one_at_a_time, present, reader

if TYPE_CHECKING:
    from datetime import timedelta

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Engine

    from triage.db import Incident
    from triage.domain import RunRef

LEASE_SECONDS = 120.0
MAX_ATTEMPTS = 20  # with the backoff below: about a day and a half
MAX_CRASHES = 5
_CRASH_SECONDS = 2.0  # wait after a second crash; doubled by each further one
_MERGE_SECONDS = 600.0  # longer than the search index may lag behind
_BACKOFF_SECONDS, _BACKOFF_MAX_SECONDS = 5.0, 4 * 3600.0
_ROUND_BACKOFF_MAX_SECONDS = 600.0  # nobody else looks, and while one waits no other is put


class Kind(StrEnum):
    """What a job is about."""

    BUILD = "build"  # a run to triage
    RELEASE = "release"
    INCIDENT = "incident"  # people to tell of an incident's news
    MERGE = "merge"  # an incident whose work item may have been filed twice
    MEND = "mend"  # incidents that may be over
    CONNECTION = "connection"  # incidents of a connection that was changed
    SWEEP = "sweep"  # failed runs that no event told of
    WATCH = "watch"  # whether Azure DevOps still tells us
    EXPIRY = "expiry"  # credentials that will end soon
    FORGET = "forget"  # what ended longer ago than is kept


_FREQUENT = (Kind.MEND, Kind.SWEEP, Kind.WATCH)  # rounds, as a rule


class State(StrEnum):
    """Where a job stands."""

    AVAILABLE = "available"
    RUNNING = "running"
    RETRYABLE = "retryable"  # failed or snoozed; available again at available_at
    COMPLETED = "completed"
    DISCARDED = "discarded"  # failed too often
    CANCELLED = "cancelled"  # there is nothing to do
    QUARANTINED = "quarantined"  # took its worker down too often


FINISHED = (State.COMPLETED, State.DISCARDED, State.CANCELLED, State.QUARANTINED)  # have a finished_at


def put(engine: Engine, ref: RunRef, *, marker: str = "") -> bool:
    """Keep a run to be triaged; False when it is known already. Durable when it returns.

    One finish of a run is one job, whichever event tells of it and however often. The key is the run
    and a marker: the second of its finish (a retried stage ends the same run again, later), which two
    events may round differently, so a neighbour counts as the same; `stage:…` or `job:…` with the
    attempt while the run goes on; `told:` and the event's second when nothing else is known.
    """
    try:
        with Session(engine) as session, session.begin():
            return put_within(session, ref, marker=marker)
    except IntegrityError:  # told twice at the same moment
        return False


def put_within(session: Session, ref: RunRef, *, marker: str = "", wait_seconds: float = 0.0) -> bool:
    """Keep a run, due after a wait, in the caller's transaction.

    Who keeps several sorts them, lest two wait for each other.
    """
    key = f"{ref}@{marker}"
    keys = [key] + [f"{ref}@{int(marker) + off}" for off in (-1, 1) if marker.isdecimal()]
    one_at_a_time(session.connection(), f"put {ref}")  # a neighbour's key differs from ours
    if session.exec(select(Job.id).where(col(Job.key).in_(keys))).first() is not None:
        return False
    session.add(
        Job(
            key=key,
            kind=ref.kind,
            project=ref.project,
            run_id=ref.id,
            environment_id=ref.environment_id,
            turn=_turn(session, ref.project),
            available_at=present(wait_seconds),
        )
    )
    return True


def put_round(engine: Engine, kind: Kind, period_seconds: float) -> bool:
    """Keep the present slot's round of periodic work; False when another process has done so."""
    key = f"{kind}@{int(now().timestamp() // period_seconds)}"
    try:
        with Session(engine) as session, session.begin():
            unfinished = (col(Job.finished_at).is_(None)) & (Job.kind == kind)  # an outage piles none up
            for known in (col(Job.key) == key, unfinished):  # each by an index; in one query it is by none
                if session.exec(select(Job.id).where(known).limit(1)).first() is not None:
                    return False
            session.add(Job(key=key, kind=kind, available_at=present()))
    except IntegrityError:
        return False
    return True


def put_look(session: Session, connection_id: str, *, marker: str) -> bool:
    """Have the open incidents of a connection looked at soon, in the caller's transaction.

    False when that was told before, or is planned already and not begun: it will see this change too.
    """
    about = f"connection:{connection_id}@"
    one_at_a_time(session.connection(), f"put {about}")
    key = f"{about}{marker or int(now().timestamp())}"
    waiting = (col(Job.finished_at).is_(None), Job.kind == Kind.CONNECTION, Job.state == State.AVAILABLE)
    planned = select(Job.id).where(*waiting, col(Job.key).startswith(about)).limit(1)
    told = select(Job.id).where(Job.key == key)
    if session.exec(told).first() is not None or session.exec(planned).first() is not None:
        return False
    session.add(Job(key=key, kind=Kind.CONNECTION, available_at=present()))
    return True


def put_telling(session: Session, incident: Incident, wait: timedelta) -> None:
    """Have an incident's people told of its news after a wait, or earlier when that is planned already.

    In the caller's transaction, which must hold the incident's row: so that a telling that begins
    sees either no part of what the caller writes, or all of it.
    """
    key, at = f"incident:{incident.id}@{incident.tellings}", present(wait.total_seconds())
    planned = session.exec(select(Job.id).where(Job.key == key)).first()
    if planned is None:
        job = Job(key=key, kind=Kind.INCIDENT, project=incident.project_id, incident_id=incident.id)
        job.available_at = at
        session.add(job)
        return
    session.exec(
        update(Job)
        .where(col(Job.id) == planned, col(Job.state) == State.AVAILABLE, col(Job.available_at) > at)
        .values(available_at=at)
    )


def put_merge(session: Session, incident_id: int, project: str, *, after: str = "") -> None:
    """Have it checked later, once, whether an incident's work item was filed twice.

    Once more `after` something of that name. In the caller's transaction.
    """
    key = f"merge:{incident_id}:{after}" if after else f"merge:{incident_id}"
    if session.exec(select(Job.id).where(Job.key == key)).first() is None:
        job = Job(key=key, kind=Kind.MERGE, project=project, incident_id=incident_id)
        job.available_at = present(_MERGE_SECONDS)
        session.add(job)


def _turn(session: Session, project: str) -> int:
    """Return the turn of a project's next run: after its own last one, not after everybody's.

    So a project with ten thousand failed runs holds up nobody's first one (start-time fair queueing).
    """
    waiting = Job.state == State.AVAILABLE
    lowest = session.exec(select(func.min(Job.turn)).where(waiting, col(Job.turn) > 0)).one() or 1
    own = session.exec(select(func.max(Job.turn)).where(waiting, Job.project == project)).one() or 0
    return max(lowest, own + 1)


def claim(engine: Engine, worker: str, *, lease_seconds: float = LEASE_SECONDS) -> Job | None:
    """Take the next job under a lease, None when nothing waits.

    A job whose lease has run out took its worker down: that counts as a crash. It may have been the
    machine, so it is tried again at once; after that it waits behind others, and after MAX_CRASHES it is
    put in quarantine.
    """
    while True:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            job = session.exec(
                select(Job)
                .where(_claimable())
                .order_by(col(Job.turn), col(Job.available_at), col(Job.id))
                .limit(1)
                .with_for_update(skip_locked=True)  # SQLite has one writer and ignores it
            ).first()
            if job is None:
                return None
            if job.state == State.RUNNING:
                job.crashes += 1
                if job.crashes >= MAX_CRASHES:
                    job.state, job.lease, job.finished_at = State.QUARANTINED, None, now()
                    job.error = f"Took its worker down {job.crashes} times."
                    continue
                if job.crashes > 1:
                    job.state, job.lease, job.lease_until = State.RETRYABLE, None, None
                    job.available_at = present(_CRASH_SECONDS * 2.0 ** (job.crashes - 2))
                    job.error = f"Took its worker down {job.crashes} times; tried again later."
                    continue
            # New for each claim, so that not even the same worker can write under a lease it lost.
            job.state, job.lease = State.RUNNING, f"{worker}/{uuid.uuid4().hex[:8]}"
            job.lease_until = present(lease_seconds)
            return job


def extend(engine: Engine, job: Job, *, lease_seconds: float = LEASE_SECONDS) -> bool:
    """Keep a lease alive; False when it is lost."""
    return _write(engine, job, lease_until=present(lease_seconds))


def complete(engine: Engine, job: Job, outcome: str) -> bool:
    """Finish a job; False, here and below, when the lease is lost and nothing was written."""
    return _finish(engine, job, State.COMPLETED, outcome=outcome, error="")


def cancel(engine: Engine, job: Job, reason: str) -> bool:
    """End a job that has nothing to do."""
    return _finish(engine, job, State.CANCELLED, outcome=reason)


def snooze(engine: Engine, job: Job, seconds: float, reason: str) -> bool:
    """Come back in so many seconds; consumes no attempt."""
    return _later(engine, job, seconds, error=reason)


def retry(engine: Engine, job: Job, error: str) -> bool:
    """Try again with backoff; after MAX_ATTEMPTS the job is discarded."""
    attempts = job.attempts + 1
    if attempts >= MAX_ATTEMPTS:
        return _finish(engine, job, State.DISCARDED, attempts=attempts, error=error)
    wait = backoff_seconds(attempts)
    if job.kind in _FREQUENT:
        wait = min(wait, _ROUND_BACKOFF_MAX_SECONDS)
    return _later(engine, job, wait, attempts=attempts, error=error)


def backoff_seconds(attempts: int) -> float:
    """Return the wait after so many failures: doubling, capped, spread by a quarter."""
    wait = min(_BACKOFF_SECONDS * 2.0 ** (attempts - 1), _BACKOFF_MAX_SECONDS)
    return wait * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, guards nothing


def abandon(engine: Engine, worker: str) -> None:
    """End the leases of a worker that is gone, so that others need not wait for them to run out.

    Those of its acts too: whoever takes one over looks first whether it was done.
    """
    with Session(engine) as session, session.begin():
        session.exec(
            update(Job)
            .where(col(Job.state) == State.RUNNING, col(Job.lease).startswith(f"{worker}/"))
            .values(lease_until=present(-1))
        )
        session.exec(
            update(Effect)
            .where(col(Effect.lease).is_not(None), col(Effect.lease).startswith(f"{worker}/"))
            .values(lease_until=present(-1))
        )


def replay(engine: Engine, job_id: int) -> bool:
    """Make a finished job available again, its counters at zero."""
    fresh = {"attempts": 0, "crashes": 0, "finished_at": None, "outcome": "", "error": ""}
    with Session(engine) as session, session.begin():
        done = session.exec(
            update(Job)
            .where(col(Job.id) == job_id, col(Job.state).in_(FINISHED))
            .values(state=State.AVAILABLE, available_at=present(), **fresh)
        )
        return bool(done.rowcount)


def beside(engine: Engine, job: Job, limit: int) -> dict[int, int]:
    """Return the jobs of a job's project that come next, each with its run, to be read in one request."""
    with Session(reader(engine)) as session:
        query = (
            select(Job.id, Job.run_id)
            .where(Job.project == job.project, Job.kind == Kind.BUILD, col(Job.state) == State.AVAILABLE)
            .order_by(col(Job.turn))
            .limit(limit)
        )
        return {number: run for number, run in session.exec(query) if number is not None and run is not None}


_ABOUT = {
    Kind.BUILD: "build {job.run_id}",
    Kind.RELEASE: "release {job.run_id}",
    Kind.INCIDENT: "telling of incident {job.incident_id}",
    Kind.MERGE: "looking for a second work item of incident {job.incident_id}",
    Kind.MEND: "looking whether open incidents are over",
    Kind.CONNECTION: "looking at the incidents of a connection that was changed",
    Kind.SWEEP: "sweeping up failed runs that no event told of",
    Kind.WATCH: "looking after the service hooks",
    Kind.EXPIRY: "looking for credentials that end soon",
    Kind.FORGET: "forgetting what ended long ago",
}


def about(job: Job) -> str:
    """Return what a job is about, in a few words."""
    known = _ABOUT.get(job.kind)  # type: ignore[call-overload]
    return known.format(job=job) if known else f"work of another version of triage ({job.kind})"


def unfinished(engine: Engine, *, within_seconds: float = 120.0) -> int:
    """Return how many jobs run, or are to run so soon."""
    soon = col(Job.available_at) <= present(within_seconds)
    with Session(reader(engine)) as session:
        return session.exec(select(func.count()).where(col(Job.finished_at).is_(None), soon)).one()


def _claimable() -> ColumnElement[bool]:
    # A job that runs was due: one range of a short index (see db.Job) holds all that can be claimed.
    due: ColumnElement[bool] = col(Job.available_at) <= present()
    abandoned = col(Job.lease_until) < present()
    return sa.and_(col(Job.finished_at).is_(None), due, (col(Job.state) != State.RUNNING) | abandoned)


def _later(engine: Engine, job: Job, seconds: float, **values: object) -> bool:
    due = present(seconds)
    return _write(
        engine, job, state=State.RETRYABLE, available_at=due, lease=None, lease_until=None, **values
    )


def _finish(engine: Engine, job: Job, state: State, **values: object) -> bool:
    return _write(engine, job, state=state, finished_at=now(), lease=None, lease_until=None, **values)


def _write(engine: Engine, job: Job, **values: object) -> bool:
    with Session(engine) as session, session.begin():
        done = session.exec(
            update(Job)
            .where(col(Job.id) == job.id, col(Job.lease) == job.lease, col(Job.state) == State.RUNNING)
            .values(**values)
        )
        return bool(done.rowcount)
