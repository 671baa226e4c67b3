"""Played: the one call of Microsoft Graph that triage makes, an application by its appId."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from datetime import datetime

_APPLICATION = re.compile(r"^/v1\.0/applications\(appId='([0-9a-f-]{36})'\)$")
_ENOUGH = {"Application.Read.All", "Application.ReadWrite.All", "Directory.Read.All"}


@dataclass
class Directory:
    """The applications of the played tenant: change them between requests."""

    applications: dict[str, dict[str, Any]] = field(default_factory=dict)  # by appId
    tokens: dict[str, frozenset[str]] = field(default_factory=dict)  # issued: what each may do
    busy: int = 0  # answer so many requests with 429
    asked: list[str] = field(default_factory=list)  # appIds

    def register(self, app_id: str, *, name: str = "") -> dict[str, Any]:
        """Add an application without secrets and return it as Graph shows it."""
        made = {"id": str(uuid.uuid4()), "appId": app_id, "displayName": name or f"application {app_id[:8]}"}
        self.applications[app_id] = {**made, "passwordCredentials": [], "keyCredentials": []}
        return self.applications[app_id]

    def add_secret(
        self, app_id: str, *, starts: datetime, ends: datetime, kind: str = "password"
    ) -> dict[str, Any]:
        """Give an application a secret (kind `password`) or a certificate (kind `key`)."""
        made = {
            "customKeyIdentifier": None,
            "displayName": "azdo",
            "endDateTime": f"{ends:%Y-%m-%dT%H:%M:%SZ}",
            "keyId": str(uuid.uuid4()),
            "startDateTime": f"{starts:%Y-%m-%dT%H:%M:%SZ}",
        }
        made |= {"hint": "abc", "secretText": None} if kind == "password" else {"key": None}
        self.applications[app_id][f"{kind}Credentials"].append(made)
        return made


def answer(directory: Directory, authorization: str, address: str) -> tuple[int, Any, dict[str, str]]:
    """Return status, body and headers of the answer to a GET."""
    parts = urlsplit(address)
    roles = directory.tokens.get(authorization.removeprefix("Bearer "))
    found = _APPLICATION.match(parts.path)
    if roles is None:
        return 401, _error("InvalidAuthenticationToken", "Access token validation failure."), {}
    if directory.busy > 0:
        directory.busy -= 1
        return 429, _error("TooManyRequests", "Too many requests."), {"Retry-After": "1"}
    if not roles & _ENOUGH:
        told = "Insufficient privileges to complete the operation."
        return 403, _error("Authorization_RequestDenied", told), {}
    if found is None:
        return 400, _error("BadRequest", "Resource not found for the segment."), {}
    directory.asked.append(found[1])
    application = directory.applications.get(found[1])
    if application is None:
        told = f"Resource '{found[1]}' does not exist or one of its queried reference-property objects are not present."
        return 404, _error("Request_ResourceNotFound", told), {}
    selected = parse_qs(parts.query).get("$select", [""])[0].split(",")
    shown = {key: value for key, value in application.items() if selected == [""] or key in selected}
    return (
        200,
        {"@odata.context": "https://graph.microsoft.com/v1.0/$metadata#applications/$entity", **shown},
        {},
    )


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "innerError": {"request-id": str(uuid.uuid4())}}}
