"""After renewal: notice that a credential works again, and close what was opened for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from triage import plan, record, tell
from triage.db import now
from triage.errors import Cancel
from triage.publish import work_item
from triage.safe import words

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Engine

    from triage.azdo import Door
    from triage.db import Incident, Job
    from triage.domain import Finding

_AT_ONCE = 200  # open incidents that one round looks at, those longest not looked at first
_SUCCEEDED = {"succeeded", "succeededWithIssues"}


@dataclass(frozen=True)
class Proof:
    """How it is known that a credential works again."""

    sentence: str  # Markdown
    renewed_by: str = ""  # where it is known
    by_person: bool = False  # somebody closed the work item: nothing is to be said there


def round_of(door: Door, engine: Engine, policy: plan.Policy, job: Job) -> str:
    """Look at the open incidents. Returns what was found, in one sentence."""
    looked = ended = 0
    for row in record.open_incidents(engine, _AT_ONCE):
        assert row.id is not None  # noqa: S101 - read from the database
        looked += 1
        found = proven(door, row)
        record.checked(engine, row.id)
        if found and record.begin_end(engine, row.id, row.last_failed_at):
            _end(door, engine, policy, row, found, worker=job.lease or "")
            ended += 1
    count = "1 open incident" if looked == 1 else f"{looked} open incidents"
    return f"Looked at {count}; {ended} are over."


def proven(door: Door, row: Incident) -> Proof | None:
    """Return how it is known that an incident is over, None while it is not known."""
    opened = record.opened_by(row)
    if opened is None or row.last_failed_at is None:
        return None
    try:
        if opened.connection is None:
            return _by_pipeline(door, opened, row.last_failed_at) or _by_person(door, row)
        return _by_use(door, opened, row.last_failed_at) or _by_person(door, row)
    except Cancel:  # the project or the connection is gone, or no longer ours to see
        return None


def _by_use(door: Door, opened: Finding, failed: datetime) -> Proof | None:
    """A run used the connection after the last failure, and succeeded."""
    connection, run = opened.connection, opened.run
    assert connection is not None  # noqa: S101 - asked by the caller
    uses = door.execution_history(run.project_id, connection.id, top=20, pages=1)
    good = [use for use in uses if use.finished_at and use.finished_at > failed and use.result in _SUCCEEDED]
    bad = [use for use in uses if use.finished_at and use.finished_at > failed and use.result == "failed"]
    if not good:
        return None
    first = min(good, key=lambda use: use.finished_at or failed)
    if any((use.finished_at or failed) > (first.finished_at or failed) for use in bad):
        return None  # it worked and failed again: another event will tell why
    page = door.run_url(run.project_name, first.owner_id)
    what = f"[run {first.owner_id}]({page})" if first.plan_type == "Build" else f"release {first.owner_id}"
    said = f"{what} used **{words(connection.name)}** and succeeded"
    current = door.connection(run.project_id, connection.id)
    changed = current is not None and current.modified_at is not None and current.modified_at > failed
    if current is not None and changed and current.modified_by is not None:
        who, when = current.modified_by.display_name, _on(current.modified_at)
        return Proof(f"{_sentence(said)}, after {words(who)} changed the connection on {when}.", who)
    return Proof(f"{_sentence(said)} on {_on(first.finished_at)}.")


def _by_pipeline(door: Door, opened: Finding, failed: datetime) -> Proof | None:
    """No connection is known: the pipeline itself has passed since."""
    run = opened.run
    if run.ref.kind != "build":
        return None
    passed = door.succeeded_runs(run.project_id, run.pipeline_id, failed)
    same = [each for each in passed if each.source_branch == run.source_branch]
    if not same:
        return None
    what = f"[{words(same[-1].pipeline_name)} {words(same[-1].number)}]({same[-1].url})"
    return Proof(f"{what} has passed on {_on(same[-1].finished_at)}.")


def _by_person(door: Door, row: Incident) -> Proof | None:
    """Somebody has closed the work item, and no run has failed since."""
    if row.work_item is None:
        return None
    closed = work_item.closed_at(door, row.project_id, row.work_item)
    if closed is None or row.last_failed_at is None or closed <= row.last_failed_at:
        return None
    return Proof(f"Work item {row.work_item} was closed by a person.", by_person=True)


def _end(
    door: Door, engine: Engine, policy: plan.Policy, row: Incident, found: Proof, *, worker: str
) -> None:
    opened = record.opened_by(row)
    assert opened is not None  # noqa: S101 - proven
    assert row.id is not None  # noqa: S101
    for action in plan.after(
        opened,
        record.broken_runs(engine, row.id),
        incident_tag=row.tag,
        work_item=None if found.by_person else row.work_item,
        proof=found.sentence,
        policy=policy,
    ):
        tell.carry_out(door, engine, policy, row.id, action, worker=worker)
    record.end(engine, row.id, row.last_failed_at, reason=found.sentence, renewed_by=found.renewed_by)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _on(moment: datetime | None) -> str:
    return f"{moment or now():%Y-%m-%d at %H:%M} UTC"
