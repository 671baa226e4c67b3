"""Cases of linking, each as a project of the played organisation with two failed runs of one pipeline."""

from __future__ import annotations

import json
import re
import tomllib
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triage import config, diagnosis
from triage.domain import RunRef
from triage.link import task_inputs
from triage.sandbox.wire import stamp

if TYPE_CHECKING:
    from collections import Counter

    from triage import azdo
    from triage.domain import Finding
    from triage.sandbox.organisation import Organisation, Project

FOLDER = Path(__file__).with_name("cases")
_SCRIPTS = {
    "Bash": "6c731c3c-3c68-459a-a5c9-bde6e6595b5b",
    "CmdLine": "d9bafed4-0b18-4f58-968d-86655b4d2ce9",
    "PowerShell": "e213ff0f-5d5c-4791-802d-52ea3e7be1f1",
    "TerraformTaskV4": "fe504acc-6115-40cb-89ff-191386b5e7bf",
    "Checkout": "6d15af64-176c-496d-b583-fd2ae21d4df4",
}
_PARAMETERS = {"tenant": "tenantid", "login": "loginServer", "registry": "registry"}
_SLOT = re.compile(r"<<(id|app|tenant|link|group)(?: ([^>]+))?>>")
_ENVIRONMENT, _PHASE, _PIPELINE = 500, 600, 7
RUNS = (41, 42)


@dataclass(frozen=True)
class Case:
    """One labelled case. `expect` is the connection at fault, or "" when nobody could tell."""

    name: str
    connections: dict[str, str]  # name: type key=value …
    step: dict[str, str]  # task, name, path, ref
    message: str
    expect: str
    why: str = ""
    method: str = ""  # how it is known, when that is part of the label
    says: str = ""  # a part of the reason
    yaml: str = ""
    preview: str = ""
    designer: list[dict[str, Any]] = field(default_factory=list)
    release: list[dict[str, Any]] = field(default_factory=list)
    release_variables: dict[str, str] = field(default_factory=dict)
    task_groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)  # of the definition
    secrets: list[str] = field(default_factory=list)  # of them
    groups: dict[str, dict[str, str]] = field(default_factory=dict)  # variable groups
    definition_groups: list[str] = field(default_factory=list)
    queued: dict[str, str] = field(default_factory=dict)
    repository: dict[str, str] = field(default_factory=dict)  # type, name, connection
    environments: dict[str, dict[str, str]] = field(default_factory=dict)  # resource: connection, or a type
    branch: str = "refs/heads/main"
    printed: str = ""  # before the message
    uses: list[str] = field(default_factory=list)  # what the execution history says
    permitted: list[str] = field(default_factory=list)
    permitted_to_all: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)  # connections that were deleted since
    changed: list[str] = field(default_factory=list)  # variable groups and task groups changed since
    elsewhere: dict[str, str] = field(default_factory=dict)  # connections of another project
    validation: bool = False

    def identity(self, *parts: str) -> str:
        """Return the same GUID for the same words, another one in each case."""
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, "/".join([self.name, *parts])))

    def fill(self, text: str) -> str:
        """Put ids of connections, their applications and tenants, and links into a text."""

        def value(slot: re.Match[str]) -> str:
            identity = self.identity(slot[2] or "")
            link = f"https://dev.azure.com/contoso/Shop/_settings/adminservices?resourceId={identity}"
            known = {"id": identity, "link": link, "group": self.identity("group", slot[2] or "")}
            return known.get(slot[1]) or self.identity(slot[1], slot[2] or "")

        return _SLOT.sub(value, text)

    @property
    def is_plausibly_another(self) -> bool:
        """Return True when the project has two connections of a kind that the message can be about."""
        kinds = [told.split()[0] for told in self.connections.values()]
        return any(kinds.count(kind) > 1 for kind in kinds)

    @property
    def ref(self) -> RunRef:
        """Return the first of its runs."""
        kind = "release" if self.release else "build"
        return RunRef(self.project, RUNS[0], kind, _ENVIRONMENT if self.release else None)  # type: ignore[arg-type]

    @property
    def again(self) -> RunRef:
        """Return the second run, which failed for the same reason."""
        return RunRef(self.ref.project, RUNS[1], self.ref.kind, self.ref.environment_id)

    @property
    def project(self) -> str:
        """Return the name of its project."""
        return f"p{self.identity()[:8]}"


def load() -> list[Case]:
    """Return every case of every file."""
    return [
        Case(**each)
        for path in sorted(FOLDER.glob("*.toml"))
        for each in tomllib.loads(path.read_text(encoding="utf-8"))["case"]
    ]


def knowledge() -> diagnosis.Knowledge:
    """Return the rules and recipes as triage has them, without an owners file."""
    return diagnosis.knowledge(config.load())


def set_up(organisation: Organisation, case: Case) -> Project:
    """Put a case's project with its two runs into the organisation."""
    project = organisation.add_project(case.project)
    owner = organisation.add_user(f"jo@{case.project}.example", "Jo")
    for name, told in case.connections.items():
        if name not in case.gone:
            project.endpoints[case.identity(name)] = _endpoint(case, project, name, told, owner)
    for name, told in case.elsewhere.items():
        other = organisation.add_project(f"{case.project}-other")
        other.endpoints[case.identity("other", name)] = {
            **_endpoint(case, other, name, told, owner),
            "id": case.identity("other", name),
        }
    _library(project, case)
    definition = _definition(project, case)
    project.definitions[_PIPELINE] = {3: definition}
    if case.preview:
        project.previews[_PIPELINE] = case.fill(case.preview)
    project.permitted[_PIPELINE] = [case.identity(name) for name in case.permitted]
    project.permitted_to_all = [case.identity(name) for name in case.permitted_to_all]
    ended = datetime.now(UTC) - timedelta(minutes=5)
    for number in RUNS:
        if case.release:
            _release(project, case, number, ended, owner)
        else:
            _build(project, case, number, ended, owner)
        for name in case.uses:
            kept = project.uses.setdefault(case.identity(name), [])
            plan = "Release" if case.release else "Build"
            kept.insert(0, {"id": number, "planType": plan, "owner": {"id": number}, "result": "failed"})
    return project


def conclude(door: azdo.Door, known: diagnosis.Knowledge, ref: RunRef) -> Finding:
    """Return what triage finds in a run of a case."""
    (finding,) = diagnosis.conclude(door, known, ref).findings
    return finding


def _endpoint(case: Case, project: Project, name: str, told: str, owner: dict[str, Any]) -> dict[str, Any]:
    """Return a connection; `home=name` is shared by a project that calls it so, `made=since` newer than the runs."""
    kind, *rest = told.split()
    values = dict(each.split("=", 1) for each in rest)
    made = datetime.now(UTC) - timedelta(days=0 if values.get("made") == "since" else 90)
    here = {"projectReference": {"id": project.id, "name": project.name}, "name": name}
    parameters = {_PARAMETERS[k]: case.fill(v) for k, v in values.items() if k in _PARAMETERS}
    if kind == "azurerm":
        parameters["serviceprincipalid"] = case.identity("app", name)
        parameters.setdefault("tenantid", case.identity("tenant", name))
    return {
        "id": case.identity(name),
        "name": values.get("home", name),
        "type": kind,
        "creationDate": stamp(made),
        "serviceEndpointProjectReferences": [here],
        "url": values.get("url", "https://management.azure.com/"),
        "authorization": {"scheme": "ServicePrincipal", "parameters": parameters},
        "data": {"creationMode": "Manual", "subscriptionId": values.get("sub", "")},
        "createdBy": owner,
        "isReady": True,
        "isShared": bool({"shared", "home"} & set(values)),
    }


def _library(project: Project, case: Case) -> None:
    for number, (name, values) in enumerate(case.groups.items(), 1):
        variables = {key: {"value": case.fill(value)} for key, value in values.items()}
        kept = {"id": number, "name": name, "variables": variables, "modifiedOn": _touched(case, name)}
        project.variable_groups[number] = kept
    for name, group in case.task_groups.items():
        identity = case.identity("group", name)
        project.task_groups[identity] = [
            {
                "id": identity,
                "name": name,
                "version": {"major": 1, "minor": 0, "patch": 0},
                "modifiedOn": _touched(case, name),
                "inputs": [{"name": k, "defaultValue": case.fill(v)} for k, v in group["inputs"].items()],
                "tasks": [_designed(case, step) for step in group["steps"]],
            }
        ]
    for number, (name, resources) in enumerate(case.environments.items(), 1):
        told = [
            _of_environment(case, 10 * number + at, *each) for at, each in enumerate(resources.items(), 1)
        ]
        project.environments[number] = {"id": number, "name": name, "resources": told}


def _touched(case: Case, name: str) -> str:
    return stamp(datetime.now(UTC) - timedelta(days=0 if name in case.changed else 90))


def _of_environment(case: Case, number: int, name: str, told: str) -> dict[str, Any]:
    resource = {"id": number, "name": name, "type": "kubernetes", "tags": []}
    if told not in case.connections:
        return {**resource, "type": told}
    cluster = {"clusterName": "aks", "namespace": name, "serviceEndpointId": case.identity(told)}
    return {**resource, **cluster}


def _definition(project: Project, case: Case) -> dict[str, Any]:
    process: dict[str, Any] = {"type": 2, "yamlFilename": "azure-pipelines.yml"}
    if case.designer:
        steps = [_designed(case, step) for step in case.designer]
        process = {"type": 1, "phases": [{"name": "Agent job", "steps": steps}]}
    known = {key: {"value": case.fill(value)} for key, value in case.variables.items()}
    hidden = {key: {"value": None, "isSecret": True} for key in case.secrets}
    numbers = {name: number for number, name in enumerate(case.groups, 1)}
    properties = {}
    if "connection" in case.repository:
        properties = {"connectedServiceId": case.identity(case.repository["connection"])}
    return {
        "id": _PIPELINE,
        "name": "shop",
        "revision": 3,
        "process": process,
        "variables": {**known, **hidden},
        "variableGroups": [{"id": numbers[name], "name": name} for name in case.definition_groups],
        "repository": {"type": case.repository.get("type", "TfsGit"), "properties": properties},
        "project": project.reference(),
    }


def _designed(case: Case, step: dict[str, Any]) -> dict[str, Any]:
    """Return a step as the designer keeps it; `group` names a task group."""
    inputs = {key: case.fill(str(value)) for key, value in step.get("inputs", {}).items()}
    if "group" in step:
        identity = case.identity("group", step["group"])
        task = {"id": identity, "versionSpec": "1.*", "definitionType": "metaTask"}
    else:
        told = _task(step["task"])
        major = told["version"].split(".")[0]
        task = {"id": told["id"], "versionSpec": f"{major}.*", "definitionType": "task"}
    return {
        "enabled": step.get("enabled", True),
        "displayName": step.get("name", ""),
        "refName": step.get("ref", ""),
        "task": task,
        "inputs": inputs,
    }


def _task(told: str) -> dict[str, str]:
    name, _, major = told.partition("@")
    identity = _SCRIPTS.get(name) or task_inputs.id_of(name) or str(uuid.uuid5(uuid.NAMESPACE_URL, name))
    return {"id": identity, "name": name, "version": f"{major or 1}.250.1"}


def _log(case: Case) -> bytes:
    at = "2026-11-21T03:12:00.0000000Z "
    lines = ["##[section]Starting: it", *case.fill(case.printed).splitlines()]
    lines += [f"##[error]{line}" for line in case.fill(case.message).splitlines()]
    return "".join(f"{at}{line}\n" for line in lines).encode()


def _build(project: Project, case: Case, number: int, ended: datetime, owner: dict[str, Any]) -> None:
    messages = case.fill(case.message).splitlines() if case.validation else []
    project.builds[number] = {
        "id": number,
        "buildNumber": f"20261121.{number}",
        "status": "completed",
        "result": "failed",
        "reason": "manual",
        "startTime": stamp(ended - timedelta(minutes=2)),
        "finishTime": stamp(ended),
        "definition": {"id": _PIPELINE, "name": "shop", "revision": 3},
        "project": project.reference(),
        "sourceBranch": case.branch,
        "parameters": json.dumps({k: case.fill(v) for k, v in case.queued.items()}) if case.queued else None,
        "repository": {
            "id": case.identity("repository"),
            "type": case.repository.get("type", "TfsGit"),
            "name": case.repository.get("name", "shop"),
        },
        "requestedFor": owner,
        "validationResults": [{"result": "error", "message": text} for text in messages],
    }
    if case.validation:
        return
    step = case.step
    task = _task(step["task"]) if step.get("task") else None
    record: dict[str, Any] = {
        "id": case.identity("record"),
        "parentId": None,
        "type": "Task",
        "name": step["name"],
        "state": "completed",
        "result": "failed",
        "attempt": 1,
        "task": task,
        "identifier": step.get("path"),
        "refName": step.get("ref"),
        "issues": [],
        "log": {"id": 2},
    }
    timeline = case.identity("timeline")
    project.timelines[number] = {timeline: {"id": timeline, "records": [record]}}
    project.current_timeline[number] = timeline
    project.logs[number] = {2: _log(case)}
    if case.yaml:
        project.logs[number][1] = b"\xef\xbb\xbf" + case.fill(case.yaml).encode()


def _release(project: Project, case: Case, number: int, ended: datetime, owner: dict[str, Any]) -> None:
    task = _task(case.step["task"])
    address = f"https://vsrm.dev.azure.com/contoso/{project.id}/_apis/Release/releases/{number}"
    log = f"{address}/environments/{_ENVIRONMENT}/deployPhases/{_PHASE}/tasks/3/logs"
    told = {"id": 3, "name": case.step["name"], "status": "failed", "task": task, "logUrl": log, "issues": []}
    told["timelineRecordId"] = case.identity("record")
    jobs = [{"job": {"name": "Agent job", "status": "failed"}, "tasks": [told]}]
    phase = {"name": "Agent job", "rank": 1, "status": "failed", "deploymentJobs": jobs}
    project.release_logs[number, _ENVIRONMENT, _PHASE, 3] = _log(case)
    project.releases[number] = {
        "id": number,
        "name": f"Release-{number}",
        "reason": "manual",
        "releaseDefinition": {"id": _PIPELINE, "name": "shop release"},
        "projectReference": {"id": project.id, "name": project.name},
        "variables": {},
        "environments": [
            {
                "id": _ENVIRONMENT,
                "name": "Production",
                "status": "rejected",
                "variables": {k: {"value": case.fill(v)} for k, v in case.release_variables.items()},
                "deployPhasesSnapshot": [{"name": "Agent job", "workflowTasks": _workflow(case)}],
                "deploySteps": [
                    {
                        "attempt": 1,
                        "status": "failed",
                        "requestedFor": owner,
                        "lastModifiedOn": stamp(ended),
                        "releaseDeployPhases": [phase],
                    }
                ],
            }
        ],
    }


def _workflow(case: Case) -> list[dict[str, Any]]:
    steps = [_designed(case, step) for step in case.release]
    return [
        {
            "taskId": step["task"]["id"],
            "version": step["task"]["versionSpec"],
            "definitionType": step["task"]["definitionType"],
            "name": step["displayName"],
            "refName": "",
            "enabled": step["enabled"],
            "inputs": step["inputs"],
        }
        for step in steps
    ]


@dataclass(frozen=True)
class Price:
    """What a finding cost in calls of Azure DevOps' API."""

    reading: int  # the run, its timeline and the failed step's log
    linking: int  # its connection and the connection's owner


def price(asked: Counter[str]) -> Price:
    """Return what the calls since were made for; where each API is found out once for each worker."""
    calls = {api: count for api, count in asked.items() if api != "areas"}
    reading = sum(calls.get(api, 0) for api in ("builds", "timelines", "releases", "release logs"))
    reading += 1 if calls.get("timelines") and calls.get("logs") else 0  # the step's own log
    return Price(reading, sum(calls.values()) - reading)
