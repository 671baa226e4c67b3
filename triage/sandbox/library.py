"""Played: variable groups, task groups, what a pipeline may use, and its YAML as of today."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse

from triage.sandbox.answers import Refusal, invalid, listing

if TYPE_CHECKING:
    from fastapi.responses import Response

    from triage.sandbox.answers import Call, Routes


def _variable_groups(call: Call) -> Response:
    known = [_without_secrets(each) for each in call.project.variable_groups.values()]
    if "groupId" in call.values:
        found = [each for each in known if each["id"] == call.number("groupId")]
        return JSONResponse(found[0] if found else None)
    if name := call.query.get("groupname"):
        known = [each for each in known if each["name"].lower() == name.lower()]
    return listing(known)


def _without_secrets(group: dict[str, Any]) -> dict[str, Any]:
    shown = copy.deepcopy(group)
    for variable in shown["variables"].values():
        if variable.get("isSecret"):
            variable["value"] = None
    return shown


def _task_groups(call: Call) -> Response:
    if "taskGroupId" not in call.values:
        return listing([version for versions in call.project.task_groups.values() for version in versions])
    versions = call.project.task_groups.get(call.guid("taskGroupId"))
    if versions is None:
        raise Refusal(404, "The task group does not exist.", "MetaTaskDefinitionNotFoundException")
    return listing(versions)


def _usable(call: Call) -> Response:
    number = call.number("definitionId")
    return listing([_resource(call, each) for each in call.project.permitted.get(number, [])])


def _usable_by_all(call: Call) -> Response:
    return listing([_resource(call, each) for each in call.project.permitted_to_all])


def _resource(call: Call, connection_id: str) -> dict[str, Any]:
    found = call.project.endpoints.get(connection_id, {})
    return {"type": "endpoint", "id": connection_id, "name": found.get("name"), "authorized": True}


def _preview(call: Call) -> Response:
    if call.table().get("previewRun") is not True:
        raise invalid("The played organisation runs no pipelines; set previewRun.")
    number = call.number("pipelineId")
    if number not in call.project.previews:
        raise Refusal(404, f"The pipeline {number} does not exist.", "PipelineNotFoundException")
    return JSONResponse({"finalYaml": call.project.previews[number], "id": -1})


ROUTES: Routes = {
    "variable groups": {"GET": _variable_groups},
    "task groups": {"GET": _task_groups},
    "usable": {"GET": _usable},
    "usable by all": {"GET": _usable_by_all},
    "preview": {"POST": _preview},
}
