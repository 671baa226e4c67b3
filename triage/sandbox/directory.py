"""Played: the organisation's projects, people and the caller's own identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse

from triage.sandbox.answers import Refusal, as_guid, invalid, listing

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi.responses import Response

    from triage.sandbox.answers import Call, Routes
    from triage.sandbox.organisation import Organisation, Project

_SEARCHES: dict[str, Callable[[dict[str, Any], str], bool]] = {
    "general": lambda user, said: said in (user["displayName"].lower(), str(user["uniqueName"]).lower()),
    "displayname": lambda user, said: said == user["displayName"].lower(),
    "accountname": lambda user, said: said == str(user["uniqueName"]).lower(),
    "mailaddress": lambda user, said: said == str(user["uniqueName"]).lower(),
}


def project_named(organisation: Organisation, name: str) -> Project:
    """Return a project by id or name; refuses an unknown one as the service does."""
    found = organisation.find_project(name)
    if found is None:
        raise Refusal(
            404,
            f"TF200016: The following project does not exist: {name}. Verify that the name of the project is "
            "correct and that the project exists on the specified Azure DevOps Server.",
            "ProjectDoesNotExistWithNameException",
        )
    return found


def _projects(call: Call) -> Response:
    if "projectId" not in call.values:
        start, top = call.asked("$skip", 0), call.asked("$top", 100)
        known = list(call.organisation.projects.values())
        return listing([_project(call, each) for each in known[start : start + top]])
    return JSONResponse(_project(call, project_named(call.organisation, call.values["projectId"])))


def _project(call: Call, project: Project) -> dict[str, Any]:
    shown = {**project.reference(), "url": f"{call.organisation.url}/_apis/projects/{project.id}"}
    if call.flag("includeCapabilities"):
        shown["capabilities"] = {"processTemplate": {"templateName": project.process}}
    return shown


def _areas(call: Call) -> Response:
    if "areaId" in call.values:
        return JSONResponse(None)
    if call.organisation.area_urls:
        known = call.organisation.area_urls.items()
        return listing([{"id": area, "name": area, "locationUrl": url} for area, url in known])
    # As a server of one's own answers: everything is below the same address.
    return JSONResponse({"count": 0, "value": None})


def _caller(call: Call) -> Response:
    caller = _identity(call.caller)
    return JSONResponse(
        {
            "authenticatedUser": caller,
            "authorizedUser": caller,
            "instanceId": call.organisation.id,
            "deploymentId": call.organisation.id,
            "deploymentType": "hosted",
            "locationServiceData": None,
        }
    )


def _identities(call: Call) -> Response:
    users = call.organisation.users
    if "identityId" in call.values:
        one = users.get(call.guid("identityId"))
        return JSONResponse(_identity(one) if one else None)
    if ids := call.query.get("identityids"):
        found = [users.get(as_guid(each.strip(), "identityIds")) for each in ids.split(",")]
        return listing([_identity(each) if each else None for each in found])
    if said := call.query.get("filtervalue"):
        fits = _SEARCHES.get(call.query.get("searchfilter", "").lower())
        if fits is None:
            raise invalid("searchFilter must be one of General, DisplayName, AccountName, MailAddress.")
        return listing([_identity(each) for each in users.values() if fits(each, said.lower())])
    raise invalid("Name the identities with identityIds, or with searchFilter and filterValue.")


def _identity(user: dict[str, Any]) -> dict[str, Any]:
    group = user.get("isContainer") is True
    mail = (
        {}
        if group
        else {"Mail": {"$type": "System.String", "$value": user.get("mail") or user["uniqueName"]}}
    )
    return {
        "id": user["id"],
        "descriptor": f"Microsoft.IdentityModel.Claims.ClaimsIdentity;{user['uniqueName']}",
        "subjectDescriptor": user.get("descriptor"),
        "providerDisplayName": user["displayName"],
        "isActive": user.get("isActive", True),
        "isContainer": group,
        "members": [],
        "memberOf": [],
        "memberIds": [],
        "resourceVersion": 2,
        "metaTypeId": 0,
        "properties": {"Account": {"$type": "System.String", "$value": user["uniqueName"]}, **mail},
    }


ROUTES: Routes = {
    "areas": {"GET": _areas},
    "caller": {"GET": _caller},
    "projects": {"GET": _projects},
    "identities": {"GET": _identities},
}
