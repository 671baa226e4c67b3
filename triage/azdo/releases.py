"""A classic release as domain values: one of its environments is the run."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from triage.azdo import shapes
from triage.domain import Issue, Run, Task, TimelineRecord
from triage.errors import Cancel

if TYPE_CHECKING:
    from triage.domain import RunRef

_RESULTS = {
    "rejected": "failed",  # an environment that failed is called rejected
    "partiallysucceeded": "partiallySucceeded",
    "succeeded": "succeeded",
    "canceled": "canceled",
}
_GOING_ON = {"inprogress", "queued", "scheduled"}
_TASK_RESULTS = {"failure": "failed", "success": "succeeded", "partiallysucceeded": "succeededWithIssues"}
# The address of a task's log is only read for its two numbers; the request goes where we build it.
_LOG_URL = re.compile(r"/environments/(\d+)/deployPhases/(\d+)/tasks/(\d+)/logs\b", re.IGNORECASE)


def chosen(body: Any, ref: RunRef) -> RunRef:
    """Return the reference with an environment: the one asked for, else the first that failed.

    Raises Cancel when the release has no such environment.
    """
    environments = shapes.items(body, "environments")
    for each in environments:
        wanted = ref.environment_id
        if shapes.whole(each, "id") == wanted or (wanted is None and _result(each) == "failed"):
            return replace(ref, environment_id=shapes.whole(each, "id"))
    raise Cancel(f"Release {ref.id} has no environment {ref.environment_id or 'that failed'} (any more).")


def run(ref: RunRef, body: Any, page: str) -> Run:
    """Return one environment of a release as a run."""
    environment = _environment(body, ref)
    attempt = _last_attempt(environment)
    definition, project = shapes.child(body, "releaseDefinition"), shapes.child(body, "projectReference")
    sources = [_lower(shapes.child(each, "definitionReference")) for each in shapes.items(body, "artifacts")]
    branches = [shapes.text(shapes.child(each, "branch"), "id") for each in sources]
    from_pull_request = any(branch.startswith("refs/pull/") for branch in branches)
    result, status = _result(environment), shapes.text(environment, "status")
    return Run(
        ref=ref,
        project_id=shapes.text(project, "id") or ref.project,
        project_name=shapes.text(project, "name") or ref.project,
        number=f"{shapes.text(body, 'name')} in {shapes.text(environment, 'name')}",
        pipeline_id=shapes.whole(definition, "id") or 0,
        pipeline_name=shapes.text(definition, "name"),
        pipeline_revision=shapes.whole(body, "releaseDefinitionRevision"),
        status=status if status.lower() in _GOING_ON else "completed",
        result=result or "none",
        reason="pullRequest" if from_pull_request else shapes.text(body, "reason"),
        source_branch=next(iter(branches), ""),
        source_version=next((shapes.text(shapes.child(s, "sourceversion"), "id") for s in sources), ""),
        url=page,
        requested_for=shapes.identity(attempt.get("requestedFor")) or shapes.identity(body.get("createdBy")),
        requested_by=shapes.identity(attempt.get("requestedBy")),
        finished_at=shapes.moment(shapes.text(attempt, "lastModifiedOn"))
        or shapes.moment(shapes.text(body, "modifiedOn")),
    )


def environment(body: Any, ref: RunRef) -> dict[str, Any]:
    """Return the environment's snapshot; its own variables before those of the release."""
    found = _environment(body, ref)
    kept: dict[str, str] = {}
    for owner in (body, found):
        for group in shapes.items(owner, "variableGroups"):
            kept |= shapes.variables(group.get("variables"))
        kept |= shapes.variables(owner.get("variables"))
    kept |= {
        "release.environmentname": shapes.text(found, "name"),
        "release.definitionname": shapes.text(shapes.child(body, "releaseDefinition"), "name"),
        "release.releasename": shapes.text(body, "name"),
    }
    return {**found, "known": kept}


def records(body: Any, ref: RunRef) -> tuple[TimelineRecord, ...]:
    """Return what the environment's last attempt did, as a pipeline's timeline tells it."""
    found = _environment(body, ref)
    attempt = _last_attempt(found)
    number = shapes.whole(attempt, "attempt") or 1
    name = shapes.text(found, "name")
    top = _record(f"environment {ref.environment_id}", None, "Stage", name, _result(found), number)
    told = [top]
    for phase in shapes.items(attempt, "releaseDeployPhases"):
        told += _phase(phase, top, number, ref)
    return tuple(told)


def _phase(phase: Any, stage: TimelineRecord, attempt: int, ref: RunRef) -> list[TimelineRecord]:
    name = shapes.text(phase, "name")
    rank = shapes.whole(phase, "rank") or 1
    status = shapes.text(phase, "status")
    result = "failed" if status.lower() == "failed" else "succeeded"
    own = _record(f"{stage.id}/{rank}", stage.id, "Phase", name, result, attempt)
    error = shapes.text(phase, "errorLog")
    if error:
        own = replace(own, issues=(Issue("error", error),), error_count=1)
    told = [own]
    for number, each in enumerate(shapes.items(phase, "deploymentJobs"), 1):
        job = shapes.child(each, "job")
        title = shapes.text(job, "name") or name
        identity = shapes.text(job, "timelineRecordId") or f"{own.id}/{number}"
        top = _record(identity, own.id, "Job", title, _task_result(job), attempt, issues=_issues(job))
        told += [top, *(_task(t, top, own, attempt, phase, ref) for t in shapes.items(each, "tasks"))]
    return told


def _task(
    body: Any, job: TimelineRecord, phase: TimelineRecord, attempt: int, deploy_phase: Any, ref: RunRef
) -> TimelineRecord:
    task = shapes.child(body, "task")
    number, phase_number = _log_place(body, deploy_phase, ref)
    identity = shapes.text(body, "timelineRecordId") or f"{job.id}/{shapes.whole(body, 'id')}"
    issues = _issues(body)
    return replace(
        _record(identity, job.id, "Task", shapes.text(body, "name"), _task_result(body), attempt),
        order=shapes.whole(body, "rank"),
        identifier=f"{phase.name}.{job.name}",
        log_id=number,
        phase_id=phase_number,
        task=Task(shapes.text(task, "id"), shapes.text(task, "name"), shapes.text(task, "version"))
        if task
        else None,
        issues=issues,
        error_count=sum(issue.kind == "error" for issue in issues),
    )


def _log_place(body: Any, phase: Any, ref: RunRef) -> tuple[int | None, int | None]:
    """Return task and deploy phase of a log: only its address tells the phase's number since 6.0."""
    found = _LOG_URL.search(shapes.text(body, "logUrl"))
    if found and int(found[1]) == ref.environment_id:
        return int(found[3]), int(found[2])
    number, phase_number = shapes.whole(body, "id"), shapes.whole(phase, "id")
    return (number, phase_number) if number is not None and phase_number is not None else (None, None)


def _issues(body: Any) -> tuple[Issue, ...]:
    told = []
    for each in shapes.items(body, "issues"):
        kind: Literal["error", "warning"] = (
            "warning" if shapes.text(each, "issueType").lower() == "warning" else "error"
        )
        number = shapes.text(shapes.child(each, "data"), "logFileLineNumber")
        told.append(Issue(kind, shapes.text(each, "message"), int(number) if number.isdigit() else None))
    return tuple(told)


def _task_result(body: Any) -> str:
    status = shapes.text(body, "status")
    return _TASK_RESULTS.get(status.lower(), status)


def _record(
    identity: str,
    parent: str | None,
    kind: str,
    name: str,
    result: str,
    attempt: int,
    *,
    issues: tuple[Issue, ...] = (),
) -> TimelineRecord:
    return TimelineRecord(
        identity, parent, kind, name, "completed", result or None, attempt=attempt, issues=issues
    )


def _lower(table: dict[str, Any]) -> dict[str, Any]:
    return {key.lower(): value for key, value in table.items()}  # older releases write Branch, newer branch


def _environment(body: Any, ref: RunRef) -> dict[str, Any]:
    found = [e for e in shapes.items(body, "environments") if shapes.whole(e, "id") == ref.environment_id]
    return found[0] if found else {}


def _last_attempt(found: Any) -> dict[str, Any]:
    attempts = shapes.items(found, "deploySteps")
    return max(attempts, key=lambda each: shapes.whole(each, "attempt") or 0, default={})


def _result(found: Any) -> str:
    return _RESULTS.get(shapes.text(found, "status").lower(), "")
