"""3 read: the logs of the steps that failed, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from triage.errors import Cancel, Snooze

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from triage.azdo import Door
    from triage.domain import Issue, Run, TimelineRecord

_NOT_READY = timedelta(minutes=2)  # the agent may still be uploading for so long after the end
_RETRY_SECONDS = 15.0
_RUNNING_SECONDS = 60.0  # a run that goes on is looked at again after so long
_LINES_MAX = 1_000_000  # of a log that is gone, as far as we go to number its errors rightly
_CONTAINERS = {"Job", "Phase", "Stage"}


@dataclass(frozen=True)
class StepLog:
    """Text of one failed step: its log, its timeline issues, or the pipeline's validation."""

    record: TimelineRecord | None
    source: Literal["log", "issue", "validation"]
    open: Callable[[], Iterator[bytes]]
    line_numbers: tuple[int, ...] | None = None  # true numbers, where the text is an extract


def fetch(door: Door, run: Run) -> list[StepLog]:
    """Return what to read of a run; opening one begins its download.

    Empty for a run that has succeeded meanwhile. Raises Snooze while the run goes on or its logs
    are on their way.
    """
    if run.status != "completed":
        raise Snooze(f"Run {run.number} has not finished yet ({run.status}).", _RUNNING_SECONDS)
    if not run.failed:
        return []
    steps = [_step(door, run, record) for record in failed_records(door.timeline(run.ref))]
    found = [step for step in steps if step is not None]
    if run.validation_errors:
        text = "\n".join(message.replace("\n", " ") for message in run.validation_errors).encode()
        found.append(StepLog(None, "validation", lambda: iter([text])))
    return found


def failed_records(records: tuple[TimelineRecord, ...]) -> list[TimelineRecord]:
    """Return the failed tasks in the order they ran; a job or stage only when no task of it failed.

    A log of a job repeats its tasks' lines, so it is never read beside them.
    """
    parents = {record.id: record.parent_id for record in records}
    failed = [record for record in records if _failed(record)]
    blamed: set[str] = set()
    for record in failed:
        if record.type not in _CONTAINERS:
            blamed |= _ancestors(record.id, parents)
    # Innermost first: a job without a failed task speaks for its phase and stage.
    chosen = [record for record in failed if record.type not in _CONTAINERS]
    for kind in ("Job", "Phase", "Stage"):
        for record in failed:
            if record.type == kind and record.id not in blamed:
                chosen.append(record)
                blamed |= _ancestors(record.id, parents)
    return sorted(chosen, key=records.index)


def _failed(record: TimelineRecord) -> bool:
    if record.result == "failed":
        return True
    return record.result == "succeededWithIssues" and any(issue.kind == "error" for issue in record.issues)


def _ancestors(record_id: str, parents: dict[str, str | None]) -> set[str]:
    above: set[str] = set()
    parent = parents.get(record_id)
    while parent and parent not in above:
        above.add(parent)
        parent = parents.get(parent)
    return above


def _step(door: Door, run: Run, record: TimelineRecord) -> StepLog | None:
    issues = tuple(issue for issue in record.issues if issue.message)
    if record.log_id is None or record.type in _CONTAINERS:
        return from_issues(record)
    log_id = record.log_id

    def opened() -> Iterator[bytes]:
        empty = True
        try:
            for chunk in door.log_chunks(run.ref, log_id, record.phase_id):
                empty = False
                yield chunk
        except Cancel:
            if run.finished_at and datetime.now(UTC) - run.finished_at < _NOT_READY:
                raise Snooze(f"Log {log_id} of run {run.number} is not there yet.", _RETRY_SECONDS) from None
        if empty:  # kept too short by retention, or lost: the timeline still has ten errors
            yield _placed(issues)

    return StepLog(record, "log", opened)


def from_issues(record: TimelineRecord) -> StepLog | None:
    """Return the errors and warnings of a step that the timeline keeps, None when it keeps none."""
    issues = tuple(issue for issue in record.issues if issue.message)
    if not issues:
        return None
    text = _text(issues)
    numbers = tuple(issue.line or 1 for issue in issues)
    return StepLog(record, "issue", lambda: iter([text]), numbers)


def _placed(issues: tuple[Issue, ...]) -> bytes:
    """Return the issues on the lines of the log that they were copied from."""
    placed, at = bytearray(), 1
    for issue in sorted(issues, key=lambda each: each.line or 1):
        gap = min(max((issue.line or 1) - at, 0), _LINES_MAX)
        placed += b"\n" * gap + _text((issue,)) + b"\n"
        at += gap + 1
    return bytes(placed)


def _text(issues: tuple[Issue, ...]) -> bytes:
    return "\n".join(" ".join(issue.message.split()) for issue in issues).encode()
