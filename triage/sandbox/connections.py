"""Played: service endpoints and their execution history (area serviceendpoint)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse

from triage.sandbox.answers import as_guid, invalid, listing

if TYPE_CHECKING:
    from fastapi.responses import Response

    from triage.sandbox.answers import Call, Routes

_SECRETS = {
    "accesstoken",
    "apitoken",
    "idtoken",
    "kubeconfig",
    "nugetkey",
    "password",
    "privatekey",
    "serviceprincipalcertificate",
    "serviceprincipalkey",
    "sessiontoken",
}
_ACTIONS = {"none", "manage", "use", "view"}
_USES_PER_PAGE = 50


def _endpoints(call: Call) -> Response:
    if call.query.get("actionfilter", "none").lower() not in _ACTIONS:
        raise invalid("actionFilter must be one of none, manage, use, view.")
    if "endpointId" in call.values:
        found = call.project.endpoints.get(call.guid("endpointId"))
        return JSONResponse(_masked(found) if found else None)  # unknown or hidden: 200 with null
    return listing([_masked(each) for each in _wanted(call)])


def _wanted(call: Call) -> list[dict[str, Any]]:
    found = list(call.project.endpoints.values())
    if not call.flag("includeFailed"):
        found = [each for each in found if each.get("isReady") is not False]
    if names := call.query.get("endpointnames"):
        wanted = {name.strip().lower() for name in names.split(",")}
        found = [each for each in found if each["name"].lower() in wanted]
    if ids := call.query.get("endpointids"):
        wanted = {as_guid(each.strip(), "endpointIds") for each in ids.split(",")}
        found = [each for each in found if each["id"].lower() in wanted]
    if kind := call.query.get("type"):
        found = [each for each in found if each["type"].lower() == kind.lower()]
    if schemes := call.query.get("authschemes"):
        found = [
            each for each in found if each["authorization"]["scheme"].lower() in schemes.lower().split(",")
        ]
    if owner := call.query.get("owner"):
        found = [each for each in found if each.get("owner", "library").lower() == owner.lower()]
    return found


def _masked(endpoint: dict[str, Any]) -> dict[str, Any]:
    """Return an endpoint without its secrets, whatever a story put there."""
    shown = copy.deepcopy(endpoint)
    for table in (shown.get("authorization", {}).get("parameters") or {}, shown.get("data") or {}):
        for key in table:
            if key.lower() in _SECRETS:
                table[key] = None
    return shown


def _history(call: Call) -> Response:
    endpoint = call.guid("endpointId")
    uses = call.project.uses.get(endpoint, [])
    start, top = call.asked("continuationToken", 0), call.asked("top", _USES_PER_PAGE) or _USES_PER_PAGE
    more = {"X-MS-ContinuationToken": str(start + top)} if start + top < len(uses) else None
    return listing([{"endpointId": endpoint, "data": each} for each in uses[start : start + top]], more)


ROUTES: Routes = {"endpoints": {"GET": _endpoints}, "history": {"GET": _history}}
