"""Played: the processes, and so the work item types, fields, states and categories of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse

from triage.sandbox.answers import Refusal, listing

if TYPE_CHECKING:
    from fastapi.responses import Response

    from triage.sandbox.answers import Call, Routes
    from triage.sandbox.organisation import Project

_COMMON = {
    "System.Id": "ID",
    "System.Rev": "Rev",
    "System.Title": "Title",
    "System.State": "State",
    "System.Reason": "Reason",
    "System.AssignedTo": "Assigned To",
    "System.AreaPath": "Area Path",
    "System.IterationPath": "Iteration Path",
    "System.Tags": "Tags",
    "System.TeamProject": "Team Project",
    "System.WorkItemType": "Work Item Type",
    "System.History": "History",
    "System.Description": "Description",
    "System.CreatedDate": "Created Date",
    "System.CreatedBy": "Created By",
    "System.ChangedDate": "Changed Date",
    "System.ChangedBy": "Changed By",
    "Microsoft.VSTS.Common.Priority": "Priority",
}
_BUG = _COMMON | {
    "Microsoft.VSTS.TCM.ReproSteps": "Repro Steps",
    "Microsoft.VSTS.TCM.SystemInfo": "System Info",
    "Microsoft.VSTS.Build.FoundIn": "Found In",
    "Microsoft.VSTS.Common.Severity": "Severity",
}
_AGILE = {"New": "Proposed", "Active": "InProgress", "Resolved": "Resolved", "Closed": "Completed"}
_REMOVED = {"Removed": "Removed"}
_TASK = {"New": "Proposed", "Active": "InProgress", "Closed": "Completed"}
_BASIC = {"To Do": "Proposed", "Doing": "InProgress", "Done": "Completed"}
LONG_TEXT = {"System.Description", "Microsoft.VSTS.TCM.ReproSteps", "Microsoft.VSTS.TCM.SystemInfo"}
READ_ONLY = {
    "System.Id",
    "System.Rev",
    "System.TeamProject",
    "System.WorkItemType",
    "System.CreatedDate",
    "System.CreatedBy",
    "System.ChangedDate",
    "System.ChangedBy",
}
ALLOWED: dict[str, list[Any]] = {
    "Microsoft.VSTS.Common.Priority": [1, 2, 3, 4],
    "Microsoft.VSTS.Common.Severity": ["1 - Critical", "2 - High", "3 - Medium", "4 - Low"],
}
FIELDS: dict[str, dict[str, dict[str, str]]] = {
    "Agile": {
        "Bug": _BUG,
        "Epic": _COMMON,
        "Feature": _COMMON,
        "Issue": _COMMON,
        "Task": _COMMON,
        "User Story": _COMMON,
    },
    "Basic": {"Epic": _COMMON, "Issue": _COMMON, "Task": _COMMON},
}
STATES: dict[str, dict[str, dict[str, str]]] = {
    "Agile": {
        "Bug": _AGILE,
        "Epic": _AGILE | _REMOVED,
        "Feature": _AGILE | _REMOVED,
        "Issue": {"Active": "InProgress", "Closed": "Completed"},
        "Task": _TASK | _REMOVED,
        "User Story": _AGILE | _REMOVED,
    },
    "Basic": {"Epic": _BASIC, "Issue": _BASIC, "Task": _BASIC},
}
_CATEGORIES = {
    "Agile": {
        "Bug": "Bug",
        "Epic": "Epic",
        "Feature": "Feature",
        "Requirement": "User Story",
        "Task": "Task",
    },
    "Basic": {"Epic": "Epic", "Requirement": "Issue", "Task": "Task"},
}


def type_named(project: Project, name: str) -> str:
    """Return a work item type as the process spells it; refuses an unknown one."""
    found = next((each for each in FIELDS[project.process] if each.lower() == name.lower()), None)
    if found is None:
        raise Refusal(
            404,
            f"VS402323: Work item type {name} does not exist in project {project.name} or you do not have "
            "permission to access it.",
            "WorkItemTypeNotFoundException",
        )
    return found


def field_named(project: Project, kind: str, name: str) -> str:
    """Return a field's reference name; refuses one that the type does not have."""
    found = next((each for each in FIELDS[project.process][kind] if each.lower() == name.lower()), None)
    if found is None:
        raise Refusal(
            400, f"TF51535: Cannot find field {name}.", "WorkItemTrackingFieldDefinitionNotFoundException"
        )
    return found


def _types(call: Call) -> Response:
    if "type" in call.values:
        return JSONResponse(_type(call, type_named(call.project, call.values["type"])))
    return listing([_type(call, each) for each in FIELDS[call.project.process]])


def _type(call: Call, name: str) -> dict[str, Any]:
    project = call.project
    fields = [_field(call, name, each) for each in FIELDS[project.process][name]]
    return {
        "name": name,
        "referenceName": "Microsoft.VSTS.WorkItemTypes." + name.replace(" ", ""),
        "description": "",
        "color": "CC293D" if name == "Bug" else "F2CB1D",
        "isDisabled": False,
        "fields": fields,
        "fieldInstances": fields,
        "states": _listed_states(project, name),
        "url": f"{call.organisation.url}/{project.id}/_apis/wit/workItemTypes/{name}",
    }


def _field(call: Call, kind: str, reference: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "alwaysRequired": reference
        in {"System.Title", "System.State", "System.AreaPath", "System.IterationPath"},
        "defaultValue": None,
        "helpText": "",
        "name": FIELDS[call.project.process][kind][reference],
        "referenceName": reference,
        "url": f"{call.organisation.url}/{call.project.id}/_apis/wit/fields/{reference}",
    }
    if call.query.get("$expand", "").lower() in {"allowedvalues", "all"}:
        shown["allowedValues"] = ALLOWED.get(reference, [])
    return shown


def _fields(call: Call) -> Response:
    kind = type_named(call.project, call.values["type"])
    if "field" in call.values:
        return JSONResponse(_field(call, kind, field_named(call.project, kind, call.values["field"])))
    return listing([_field(call, kind, each) for each in FIELDS[call.project.process][kind]])


def _states(call: Call) -> Response:
    return listing(_listed_states(call.project, type_named(call.project, call.values["type"])))


def _listed_states(project: Project, kind: str) -> list[dict[str, str]]:
    known = STATES[project.process][kind]
    return [{"name": name, "color": "b2b2b2", "category": category} for name, category in known.items()]


def _categories(call: Call) -> Response:
    known = _CATEGORIES[call.project.process]
    wanted = call.values.get("category")
    if wanted is None:
        return listing([_category(call, each) for each in known])
    found = next((each for each in known if f"microsoft.{each}category".lower() == wanted.lower()), None)
    if found is None:
        raise Refusal(
            404,
            f"The work item type category {wanted} does not exist in project {call.project.name}.",
            "WorkItemTypeCategoryNotFoundException",
        )
    return JSONResponse(_category(call, found))


def _category(call: Call, name: str) -> dict[str, Any]:
    kind = _CATEGORIES[call.project.process][name]
    home = f"{call.organisation.url}/{call.project.id}/_apis/wit"
    reference = {"name": kind, "url": f"{home}/workItemTypes/{kind}"}
    return {
        "name": f"{name} Category",
        "referenceName": f"Microsoft.{name}Category",
        "defaultWorkItemType": reference,
        "workItemTypes": [reference],
        "url": f"{home}/workItemTypeCategories/Microsoft.{name}Category",
    }


ROUTES: Routes = {
    "types": {"GET": _types},
    "fields": {"GET": _fields},
    "states": {"GET": _states},
    "categories": {"GET": _categories},
}
