"""Played: service endpoints and their execution history (area serviceendpoint)."""

from __future__ import annotations

import copy
import threading
from datetime import UTC, datetime
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
_PARAMETERS = ("authorization", "parameters")
_EXPIRED = (
    "Failed to obtain the Json Web Token(JWT) using service principal client ID. Exception message: A "
    "configuration issue is preventing authentication - check the error message from the server for details. "
    "Original exception: AADSTS7000222: The provided client secret keys for app '***' are expired. Visit the "
    "Azure portal to create new keys for your app. Trace ID: 00000000-0000-4000-8000-000000000000"
)
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
        if any(_is_secret(key) and value for key, value in _table(given, _PARAMETERS).items()):
            project.ends.pop(number, None)  # what is entered anew works
        changed = {"id": number, "modifiedBy": call.caller, "modificationDate": wire_time()}
        project.endpoints[number] = {**old, **given, **changed}
        for path in (_PARAMETERS, ("data",)):
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
        if _is_secret(key) and not new.get(key):
            new[key] = value


def _is_secret(key: str) -> bool:
    return key.lower() in _SECRETS


def _proxy(call: Call) -> Response:
    """Run a data source with a connection's credential. Of them all, the test of the credential is played."""
    require(call, "ServiceEndpoints/Use", "Use")
    endpoint = call.project.endpoints.get(as_guid(call.query.get("endpointid", ""), "endpointId"))
    if endpoint is None:
        raise Refusal(404, "The service connection does not exist.", "ServiceEndpointNotFoundException")
    asked = _table(call.table(), ("dataSourceDetails",)).get("dataSourceName")
    if (str(endpoint["type"]).lower(), asked) != ("azurerm", "TestConnection"):
        raise invalid(f"The service connection's type has no data source {asked!r}.")
    ends = call.project.ends.get(endpoint["id"])
    if ends is None or ends > datetime.now(UTC):
        return JSONResponse({"result": ["{}"], "statusCode": "ok", "errorMessage": ""})
    return JSONResponse({"result": None, "statusCode": "badRequest", "errorMessage": _EXPIRED})


ROUTES: Routes = {
    "endpoints": {"GET": _endpoints},
    "endpoint proxy": {"POST": _proxy},
    "endpoint updates": {"PUT": _update},
    "history": {"GET": _history},
}
