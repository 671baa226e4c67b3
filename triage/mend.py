"""After renewal: notice that a credential works again, and close what was opened for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from triage import acts, effects, jobs, plan, record, tell, trying
from triage.db import ENDING, now
from triage.errors import AccessRefused, Cancel, RetryLater, Snooze
from triage.publish import work_item
from triage.safe import words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.engine import Engine

    from triage.azdo import Door
    from triage.db import Incident, Job
    from triage.domain import Connection, Finding

log = structlog.get_logger()

_AT_ONCE = 200  # open incidents that one round looks at, those longest not looked at first
_SETTLES = timedelta(minutes=2)  # until then a new secret may be refused by a part of Entra
_INTERRUPTED = "It was shown to work just before triage was interrupted."
_SUCCEEDED = {"succeeded", "succeededWithIssues"}


class _TooSoon(Snooze):
    """What a test of a credential says just after its change is not to be told yet."""


@dataclass(frozen=True)
class Proof:
    """How it is known that a credential works again."""

    sentence: str  # Markdown
    worked_at: datetime | None = None  # when the last that worked began: what failed earlier is no news
    renewed_by: str = ""  # where it is known
    by_person: bool = False  # somebody closed the work item: nothing is to be said there


def round_of(door: Door, engine: Engine, policy: plan.Policy, job: Job) -> str:
    """Look at the open incidents. Returns what was found, in one sentence."""
    if not policy.test_credential:
        trying.forget(engine)
    return _look_at_all(door, engine, policy, job, record.open_incidents(engine, _AT_ONCE))


def look_at(door: Door, engine: Engine, policy: plan.Policy, job: Job) -> str:
    """Look at the open incidents of a connection that was changed. Returns what was found, in one sentence.

    That it was changed proves nothing, but what does may have happened.
    """
    changed = job.key.partition(":")[2].partition("@")[0]
    rows = record.open_incidents(engine, _AT_ONCE, connection_id=changed)
    if not rows:
        return "No open incident is about this connection, or its people are just being told of it."
    return _look_at_all(door, engine, policy, job, rows)


def _look_at_all(door: Door, engine: Engine, policy: plan.Policy, job: Job, rows: Sequence[Incident]) -> str:
    looked = ended = 0
    too_soon: _TooSoon | None = None
    connections = _Connections(door, rows)
    for row in rows:
        assert row.id is not None  # noqa: S101 - read from the database
        record.checked(engine, row.id)  # first: one that cannot be looked at is not the first again
        looked += 1
        try:
            ended += _look(door, engine, policy, row, connections, worker=job.lease or "")
        except _TooSoon as soon:
            record.keep_open(engine, row.id)
            too_soon = soon
        except Snooze:
            raise
        except Exception as fault:  # noqa: BLE001 - of this one; the others are looked at
            record.keep_open(engine, row.id)
            log.warning("an incident could not be looked at", incident=row.id, reason=str(fault))
    if too_soon is not None and job.kind == jobs.Kind.CONNECTION:  # a round comes again anyway
        raise too_soon
    count = "1 open incident" if looked == 1 else f"{looked} open incidents"
    return f"Looked at {count}; {ended} are over."


class _Connections:
    """The connections of open incidents as they are now: one request for those of a project."""

    def __init__(self, door: Door, rows: Sequence[Incident]) -> None:
        self._door = door
        self._ids: dict[str, set[str]] = {}
        for row in rows:
            if row.connection_id:
                self._ids.setdefault(row.project_id, set()).add(row.connection_id)
        self._read: dict[str, dict[str, Connection]] = {}

    def of(self, row: Incident) -> Connection | None:
        """Return an incident's connection, None when it has none or it is not shown to triage now."""
        if row.connection_id is None:
            return None
        if row.project_id not in self._read:
            try:
                found = self._door.connections_by_id(row.project_id, sorted(self._ids[row.project_id]))
            except (AccessRefused, Cancel, RetryLater):
                found = ()  # the next round asks again; what proves that it works is looked for without
            self._read[row.project_id] = {each.id: each for each in found}
        return self._read[row.project_id].get(row.connection_id)


def _look(
    door: Door,
    engine: Engine,
    policy: plan.Policy,
    row: Incident,
    connections: _Connections,
    *,
    worker: str,
) -> bool:
    """End an incident that is over. Returns whether it was."""
    assert row.id is not None  # noqa: S101 - read from the database
    in_digest = record.stands_in_digest(engine, row)
    found = proven(door, row)
    if found is None:
        now_ = connections.of(row)
        found = _by_change(door, engine, policy, row, now_, in_digest=in_digest, worker=worker)
    if found is None and row.state == ENDING and (begun := record.end_begun(engine, row)):
        if record.has_found_since(engine, row, begun):
            record.open_again(engine, row.id)
            return False
        found = Proof(_INTERRUPTED)
    # Last: what triage itself closed before a crash, or is to open again, is no person's doing.
    if found is None and not in_digest and not record.has_come_back(row):
        found = _by_person(door, engine, row)
    if found is None:
        if row.state == ENDING:  # a crash left it so, and it is not proven any more
            record.keep_open(engine, row.id)
        return False
    held = record.begin_end(engine, row.id, row.last_failed_at)
    if held is None:
        return False
    _end(door, engine, policy, held, found, worker=worker)
    return True


def _by_change(
    door: Door,
    engine: Engine,
    policy: plan.Policy,
    row: Incident,
    connection: Connection | None,
    *,
    in_digest: bool,
    worker: str,
) -> Proof | None:
    """The connection was changed since the last failure: try its credential, else say so once.

    Each change is tried once, or until Entra has had the time to make a new secret known everywhere.
    """
    changed_at = connection.modified_at if connection else None
    if connection is None or changed_at is None or row.last_failed_at is None or row.work_item is None:
        return None
    by = connection.modified_by.display_name if connection.modified_by else ""
    act = acts.TellChanged(row.project_id, None if in_digest else row.work_item, changed_at, by)
    if changed_at <= row.last_failed_at or effects.is_done(engine, act.key(row.id or 0)):
        return None
    opened = record.opened_by(row)
    if policy.test_credential and opened is not None and trying.is_proof(opened, connection):
        tested = trying.attempt(door, engine, connection)
        if tested is not None and tested.passed:
            return _tested(connection, changed_at, by)
        if tested is not None:
            if changed_at > now() - _SETTLES:
                raise _TooSoon("The connection was changed just now.", _SETTLES.total_seconds())
            act = replace(act, refused=trying.shown(tested.error))
    tell.carry_out(door, engine, policy, row.id, act, worker=worker)
    return None


def _tested(connection: Connection, changed_at: datetime, by: str) -> Proof:
    said = f"Azure DevOps signed in with **{words(connection.name)}** on {_on(now())}"
    sentence = f"{said}, after {words(by) or 'somebody'} changed it on {_on(changed_at)}."
    return Proof(sentence, changed_at, by)  # the moment by Azure DevOps' clock, as those of runs are


def proven(door: Door, row: Incident) -> Proof | None:
    """Return how a run has shown that an incident is over, None while none has."""
    opened = record.opened_by(row)
    if opened is None or row.last_failed_at is None:
        return None
    try:
        if opened.connection is None:
            return _by_pipeline(door, opened, row.last_failed_at)
        return _by_use(door, opened, row.last_failed_at)
    except Cancel:  # the project or the connection is gone, or no longer ours to see
        return None


def _by_use(door: Door, opened: Finding, failed: datetime) -> Proof | None:
    """A run used the connection after the last failure, and succeeded."""
    connection, run = opened.connection, opened.run
    assert connection is not None  # noqa: S101 - asked by the caller
    uses = door.execution_history(run.project_id, connection.id, top=20, pages=1)
    since = [use for use in uses if use.finished_at and (use.started_at or use.finished_at) > failed]
    good = [use for use in since if use.result in _SUCCEEDED]
    if not good:
        return None
    first = max(good, key=lambda use: use.finished_at or failed)
    at = first.finished_at or failed
    if any(use.result == "failed" and (use.finished_at or failed) > at for use in uses):
        return None  # something failed since: its own event tells of what
    began = max(use.started_at or use.finished_at or failed for use in good)
    page = door.run_url(run.project_name, first.owner_id)
    what = f"[Run {first.owner_id}]({page})" if first.plan_type == "Build" else f"Release {first.owner_id}"
    said = f"{what} used **{words(connection.name)}** and succeeded"
    current = door.connection(run.project_id, connection.id)
    changed = current is not None and current.modified_at is not None and current.modified_at > failed
    if current is not None and changed and current.modified_by is not None:
        who, when = current.modified_by.display_name, _on(current.modified_at)
        return Proof(f"{said}, after {words(who)} changed the connection on {when}.", began, who)
    return Proof(f"{said} on {_on(at)}.", began)


def _by_pipeline(door: Door, opened: Finding, failed: datetime) -> Proof | None:
    """No connection is known: the pipeline itself has passed since, begun when it had failed."""
    run = opened.run
    if run.ref.kind != "build":
        return None
    passed = door.succeeded_runs(run.project_id, run.pipeline_id, failed)
    same = [
        each
        for each in passed
        if each.source_branch == run.source_branch and (each.started_at is None or each.started_at > failed)
    ]
    if not same:
        return None
    what = f"[{words(same[-1].pipeline_name)} {words(same[-1].number)}]({same[-1].url})"
    began = max(each.started_at or each.finished_at or failed for each in same)
    return Proof(f"{what} has passed on {_on(same[-1].finished_at)}.", began)


def _by_person(door: Door, engine: Engine, row: Incident) -> Proof | None:
    """Somebody has closed the work item, and no run has failed since.

    A digest that a person closes says nothing of each credential that it spoke for. Where an older one is
    open, another deployment of triage has closed this one as filed twice: then that one stands for it.
    """
    if row.work_item is None or row.last_failed_at is None or record.opened_by(row) is None:
        return None
    try:
        closed = work_item.closed_at(door, row.project_id, row.work_item)
    except Cancel:
        return None
    if closed is None or closed <= row.last_failed_at:
        return None
    twins = work_item.twins(door, row.project_id, row.tag, row.work_item)
    if twins and twins[0].id < row.work_item:
        tell.take_over(door, engine, row, twins[0].id)
        return None
    return Proof(f"Work item {row.work_item} was closed by a person.", by_person=True)


def _end(
    door: Door, engine: Engine, policy: plan.Policy, row: Incident, found: Proof, *, worker: str
) -> None:
    opened = record.opened_by(row)
    assert opened is not None  # noqa: S101 - proven
    assert row.id is not None  # noqa: S101
    in_digest = record.stands_in_digest(engine, row)
    decided = plan.after(
        opened,
        record.broken_runs(engine, row.id),
        incident_tag=row.tag,
        work_item=None if in_digest else row.work_item,
        proof=found.sentence,
        since=record.which_time(engine, row),
        policy=policy,
    )
    # That a person has closed the item need not mean that anything works: nobody else is told.
    for action in () if found.by_person else decided:
        tell.carry_out(door, engine, policy, row.id, action, worker=worker)
    record.end(
        engine,
        row.id,
        row.last_failed_at,
        reason=found.sentence,
        renewed_by=found.renewed_by,
        worked_at=found.worked_at,
        by_person=found.by_person,
    )


def _on(moment: datetime | None) -> str:
    return f"{moment or now():%Y-%m-%d at %H:%M} UTC"
