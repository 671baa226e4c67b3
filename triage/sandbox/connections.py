"""Played: service endpoints and their execution history (area serviceendpoint)."""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse

from triage.sandbox import events, hooks
from triage.sandbox.answers import Refusal, as_guid, invalid, listing
from triage.sandbox.organisation import wire_time
from triage.sandbox.security import require

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


def _update(call: Call) -> Response:
    """Change a connection in all its projects, and tell who has subscribed to that."""
    require(call, "ServiceEndpoints/Administer", "Administer")
    number, given = call.guid("endpointId"), call.table()
    places = [each for each in call.organisation.projects.values() if number in each.endpoints]
    if not places:
        raise Refusal(404, f"No service connection has the id {number}.", "ServiceEndpointNotFoundException")
    for project in places:
        old = project.endpoints[number]
        changed = {"id": number, "modifiedBy": call.caller, "modificationDate": wire_time()}
        project.endpoints[number] = {**old, **given, **changed}
        for path in (("authorization", "parameters"), ("data",)):
            _keep_secrets(_table(old, path), _table(project.endpoints[number], path))
    shown = _masked(places[0].endpoints[number])
    event = events.endpoint_updated(shown, call.organisation.url, places[0])
    # After the answer: who is told may ask at once.
    threading.Thread(target=hooks.deliver, args=(call.organisation, event), daemon=True).start()
    return JSONResponse(shown)


def _table(endpoint: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for step in path:
        endpoint = endpoint.get(step) or {}
    return endpoint


def _keep_secrets(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Keep each secret that is sent back as it was shown: empty."""
    for key, value in old.items():
        if key.lower() in _SECRETS and not new.get(key):
            new[key] = value


ROUTES: Routes = {
    "endpoints": {"GET": _endpoints},
    "endpoint updates": {"PUT": _update},
    "history": {"GET": _history},
}
