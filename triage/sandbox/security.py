"""Played: the security namespaces, and what the caller may do (areas Security and wit/classificationNodes)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse

from triage.sandbox.answers import Refusal, invalid, listing

if TYPE_CHECKING:
    from fastapi.responses import Response

    from triage.sandbox.answers import Call, Routes

# Name, id, and the actions in the order of their bits, as Microsoft's reference of namespaces lists them.
_NAMESPACES = {
    "Build": (
        "33344d9c-fc72-4d6f-aba5-fa317101a7e9",
        (
            "ViewBuilds EditBuildQuality RetainIndefinitely DeleteBuilds ManageBuildQualities DestroyBuilds "
            "UpdateBuildInformation QueueBuilds ManageBuildQueue StopBuilds ViewBuildDefinition "
            "EditBuildDefinition DeleteBuildDefinition OverrideBuildCheckInValidation AdministerBuildPermissions"
        ),
    ),
    "CSS": (
        "83e28ad4-2d72-4ceb-97b0-c7726d5502c3",
        (
            "GENERIC_READ GENERIC_WRITE CREATE_CHILDREN DELETE WORK_ITEM_READ WORK_ITEM_WRITE MANAGE_TEST_PLANS "
            "MANAGE_TEST_SUITES"
        ),
    ),
    "Git Repositories": (
        "2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87",
        (
            "Administer GenericRead GenericContribute ForcePush CreateBranch CreateTag ManageNote PolicyExempt "
            "CreateRepository DeleteRepository RenameRepository EditPolicies RemoveOthersLocks ManagePermissions "
            "PullRequestContribute PullRequestBypassPolicy"
        ),
    ),
    "Project": (
        "52d39943-cb85-4d7f-8fa8-c6baac873819",
        "GENERIC_READ GENERIC_WRITE DELETE PUBLISH_TEST_RESULTS",
    ),
    "ServiceEndpoints": (
        "49b48001-ca20-4adc-8111-5b60c903a50c",
        "Use Administer Create ViewAuthorization ViewEndpoint",
    ),
    "ServiceHooks": (
        "cb594ebe-87dd-4fc9-ac2c-6a10a4c92046",
        "ViewSubscriptions EditSubscriptions DeleteSubscriptions PublishEvents",
    ),
    "Tagging": ("bb50f182-8e5e-40b8-bc21-e8752a1e7ae2", "Enumerate Create Update Delete"),
}
# A user that has what deploy/README.md asks for, and nothing else.
ENOUGH = frozenset(
    {
        "Build/ViewBuilds",
        "Build/ViewBuildDefinition",
        "Build/EditBuildQuality",
        "Build/UpdateBuildInformation",
        "CSS/GENERIC_READ",
        "CSS/WORK_ITEM_READ",
        "CSS/WORK_ITEM_WRITE",
        "Git Repositories/GenericRead",
        "Git Repositories/PullRequestContribute",
        "Project/GENERIC_READ",
        "ServiceEndpoints/ViewEndpoint",
        "ServiceHooks/ViewSubscriptions",
        "ServiceHooks/EditSubscriptions",
        "Tagging/Enumerate",
        "Tagging/Create",
    }
)


def _namespace(name: str) -> dict[str, Any]:
    identity, actions = _NAMESPACES[name]
    return {
        "namespaceId": identity,
        "name": name,
        "displayName": name,
        "separatorValue": "/",
        "elementLength": -1,
        "actions": [
            {"bit": 1 << place, "name": action, "displayName": action, "namespaceId": identity}
            for place, action in enumerate(actions.split())
        ],
        "structureValue": 1,
        "isRemotable": False,
        "useTokenTranslator": False,
    }


def _namespaces(call: Call) -> Response:
    if "securityNamespaceId" not in call.values:
        return listing([_namespace(name) for name in _NAMESPACES])
    wanted = call.guid("securityNamespaceId")
    return listing([_namespace(name) for name, (identity, _) in _NAMESPACES.items() if identity == wanted])


def _evaluated(call: Call) -> Response:
    asked = call.table().get("evaluations")
    if not isinstance(asked, list):
        raise invalid("The body must hold evaluations.")
    return JSONResponse({"evaluations": [{**each, "value": _may(call, each)} for each in asked]})


def _may(call: Call, evaluation: dict[str, Any]) -> bool:
    wanted = str(evaluation.get("securityNamespaceId", "")).lower()
    name = next((name for name, (identity, _) in _NAMESPACES.items() if identity == wanted), None)
    if name is None:
        raise Refusal(
            404, f"The security namespace {wanted} does not exist.", "InvalidSecurityNamespaceException"
        )
    bits = int(evaluation.get("permissions") or 0)
    held = sum(
        1 << place
        for place, action in enumerate(_NAMESPACES[name][1].split())
        if f"{name}/{action}" in call.rights
    )
    return bits & held == bits


def require(call: Call, right: str, words: str) -> None:
    """Refuse what the caller may not do (403)."""
    if right not in call.rights:
        raise Refusal(
            403,
            f"Access denied. {call.caller['displayName']} needs {words} permissions to perform the action.",
            "AccessDeniedException",
        )


def _nodes(call: Call) -> Response:
    group = call.values["structureGroup"].lower()
    if group not in {"areas", "iterations"}:
        raise invalid(f"The structure group {group} is not known.")
    identity = str(uuid.uuid5(uuid.UUID(call.project.id), group))
    return JSONResponse(
        {
            "id": 1,
            "identifier": identity,
            "name": call.project.name,
            "structureType": group[:-1],
            "hasChildren": False,
            "path": f"\\{call.project.name}\\{group[:-1].capitalize()}",
        }
    )


ROUTES: Routes = {
    "namespaces": {"GET": _namespaces},
    "evaluations": {"POST": _evaluated},
    "classification nodes": {"GET": _nodes},
}
