"""A run of a scenario as one deployment of a classic release: snapshot, attempts, logs, and its event."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from triage.sandbox import pipeline
from triage.sandbox.organisation import wire_time
from triage.sandbox.wire import guid, person, project_reference, stamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from triage.sandbox.organisation import Project
    from triage.sandbox.scenario import RunTable, StepTable
    from triage.sandbox.timeline import Played

_STATUS = {"failed": "rejected", "partiallySucceeded": "partiallySucceeded"}


def release(
    project: Project,
    table: RunTable,
    played: Played,
    *,
    number: int,
    definition_id: int,
    base_url: str,
    at: datetime,
    fill: Callable[[str], str],
) -> dict[str, Any]:
    """Keep a release with one environment in a project, its tasks' logs too, and return it."""
    environment = number + 50_000
    jobs = list(dict.fromkeys(step.job for step in table.steps))
    records = played.timelines[played.current]["records"]
    phases = [
        _phase(project, records, played, job, rank, (number, environment), base_url)
        for rank, job in enumerate(jobs, 1)
    ]
    asked = person(table.requested_for, base_url)
    home = f"{base_url}/{project.id}"
    made = {
        "id": number,
        "name": f"Release-{number}",
        "status": "active",
        "createdOn": stamp(at),
        "modifiedOn": stamp(at),
        "createdBy": asked,
        "modifiedBy": asked,
        "reason": "manual" if table.reason == "manual" else "continuousIntegration",
        "variables": {},
        "variableGroups": [],
        "artifacts": [_artifact(project, table)],
        "releaseDefinition": {"id": definition_id, "name": table.pipeline, "path": "\\"},
        "releaseDefinitionRevision": 3,
        "projectReference": {"id": project.id, "name": project.name},
        "url": f"{home}/_apis/Release/releases/{number}",
        "_links": {"web": {"href": f"{home}/_release?releaseId={number}&_a=release-summary"}},
        "environments": [
            {
                "id": environment,
                "releaseId": number,
                "name": table.environment,
                "status": _STATUS.get(played.result, "succeeded"),
                "variables": {key: {"value": fill(value)} for key, value in table.variables.items()},
                "variableGroups": [],
                "rank": 1,
                "definitionEnvironmentId": 1,
                "deployPhasesSnapshot": [
                    {
                        "name": job,
                        "rank": rank,
                        "phaseType": "agentBasedDeployment",
                        "workflowTasks": [_workflow(s, fill) for s in table.steps if s.job == job],
                    }
                    for rank, job in enumerate(jobs, 1)
                ],
                "deploySteps": [
                    {
                        "id": number + 60_000,
                        "deploymentId": number + 70_000,
                        "attempt": 1,
                        "reason": "automated",
                        "status": "failed" if played.result == "failed" else "succeeded",
                        "operationStatus": "PhaseFailed" if played.result == "failed" else "Approved",
                        "releaseDeployPhases": phases,
                        "requestedBy": asked,
                        "requestedFor": asked,
                        "lastModifiedOn": stamp(at),
                        "hasStarted": True,
                        "tasks": [],
                        "issues": [],
                    }
                ],
                "owner": asked,
            }
        ],
    }
    project.releases[number] = made
    return made


def event(made: dict[str, Any], base_url: str, project: Project) -> dict[str, Any]:
    """Return the event that a deployment has ended."""
    home = f"{base_url}/"
    account = str(uuid.uuid5(uuid.NAMESPACE_URL, home))
    environment = {key: value for key, value in made["environments"][0].items() if key != "deploySteps"}
    text = f"Deployment of release {made['name']} on environment {environment['name']} Failed."
    message = {"text": text, "html": text, "markdown": text}
    return {
        "id": str(uuid.uuid4()),
        "eventType": "ms.vss-release.deployment-completed-event",
        "publisherId": "rm",
        "message": message,
        "detailedMessage": message,
        "resource": {
            "environment": {
                **environment,
                "deploySteps": [],
                "release": {"id": made["id"], "name": made["name"], "url": made["url"]},
            },
            "project": {"id": project.id, "name": project.name},
        },
        "resourceVersion": "3.0-preview.1",
        "resourceContainers": {
            "collection": {"id": account, "baseUrl": home},
            "account": {"id": account, "baseUrl": home},
        },
        "createdDate": wire_time(),
    }


def use(made: dict[str, Any], *, number: int, result: str) -> dict[str, Any]:
    """Return an entry of a connection's execution history."""
    return {
        "id": number,
        "planType": "Release",
        "definition": made["releaseDefinition"],
        "owner": {"id": made["id"], "name": made["name"]},
        "startTime": made["createdOn"],
        "finishTime": made["modifiedOn"],
        "result": result,
    }


def _phase(
    project: Project,
    records: list[dict[str, Any]],
    played: Played,
    job: str,
    rank: int,
    place: tuple[int, int],
    base_url: str,
) -> dict[str, Any]:
    release_id, environment = place
    top = next(r for r in records if r["type"] == "Job" and r["name"] == job)
    phase = 10 * release_id + rank
    tasks = []
    for index, record in enumerate((r for r in records if r["parentId"] == top["id"]), 1):
        home = f"{base_url}/{project.id}/_apis/Release/releases/{release_id}/environments/{environment}"
        address = f"{home}/deployPhases/{phase}/tasks/{index}/logs"
        if record["log"]:
            project.release_logs[release_id, environment, phase, index] = played.logs[record["log"]["id"]]
        tasks.append(_task(record, index, address if record["log"] else None))
    return {
        "phaseId": guid(job, str(phase)),
        "name": job,
        "rank": rank,
        "phaseType": "agentBasedDeployment",
        "status": "failed" if top["result"] == "failed" else "succeeded",
        "errorLog": None,
        "runPlanId": guid("plan", str(phase)),
        "deploymentJobs": [{"job": _task(top, 0, None), "tasks": tasks}],
    }


def _task(record: dict[str, Any], number: int, log: str | None) -> dict[str, Any]:
    return {
        "id": number,
        "timelineRecordId": record["id"],
        "name": record["name"],
        "rank": record["order"],
        "status": {"succeededWithIssues": "partiallySucceeded"}.get(record["result"], record["result"]),
        "startTime": record["startTime"],
        "finishTime": record["finishTime"],
        "agentName": "Hosted Agent 4",
        "logUrl": log,
        "lineCount": None,
        "task": record["task"],
        "issues": [
            {"issueType": issue["type"].capitalize(), "message": issue["message"], "data": issue["data"]}
            for issue in record["issues"]
        ],
    }


def _workflow(step: StepTable, fill: Callable[[str], str]) -> dict[str, Any]:
    task = pipeline.task_of(step)
    return {
        "taskId": task["id"],
        "version": f"{task['version'].split('.', maxsplit=1)[0]}.*",
        "name": fill(step.name),
        "refName": "",
        "enabled": True,
        "alwaysRun": False,
        "continueOnError": step.continue_on_error,
        "definitionType": "task",
        "inputs": {key: fill(value) for key, value in step.inputs.items()},
    }


def _artifact(project: Project, table: RunTable) -> dict[str, Any]:
    return {
        "sourceId": f"{project.id}:1",
        "type": "Build",
        "alias": "_build",
        "isPrimary": True,
        "definitionReference": {
            "branch": {"id": table.branch, "name": table.branch},
            "project": {"id": project.id, "name": project_reference(project.name, "")["name"]},
            "version": {"id": "1", "name": "20261121.1"},
        },
    }
