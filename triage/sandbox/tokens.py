"""Played: whose token a request carries, and which scopes of it an API asks for."""

from __future__ import annotations

import base64
import binascii
import time
from dataclasses import dataclass
from typing import Any, Literal

# API (names of locations.py): scope to read, scope to write. What is not here asks for none.
_SCOPES = {
    **dict.fromkeys(("builds", "timelines", "logs", "definitions"), ("vso.build", "vso.build_execute")),
    **dict.fromkeys(("usable", "usable by all", "stages"), ("vso.build", "vso.build_execute")),
    "preview": ("vso.build", "vso.build"),
    **dict.fromkeys(("tags", "properties"), ("vso.build", "vso.build_execute")),
    **dict.fromkeys(("endpoints", "history"), ("vso.serviceendpoint", "vso.serviceendpoint_manage")),
    "endpoint updates": ("vso.serviceendpoint_manage", "vso.serviceendpoint_manage"),
    "endpoint proxy": ("vso.serviceendpoint_query", "vso.serviceendpoint_query"),
    **dict.fromkeys(("new work item", "work items", "comments"), ("vso.work", "vso.work_write")),
    **dict.fromkeys(("batch", "wiql", "artifacts"), ("vso.work", "vso.work")),
    **dict.fromkeys(("types", "states", "fields", "categories"), ("vso.work", "vso.work_full")),
    "classification nodes": ("vso.work", "vso.work_write"),
    **dict.fromkeys(("pull requests", "repositories"), ("vso.code", "vso.code_write")),
    **dict.fromkeys(("threads", "thread comments"), ("vso.threads_full", "vso.threads_full")),
    **dict.fromkeys(("pull request statuses", "commit statuses"), ("vso.code", "vso.code_status")),
    **dict.fromkeys(("releases", "release logs"), ("vso.release", "vso.release_execute")),
    "identities": ("vso.identity", "vso.identity_manage"),
    **dict.fromkeys(("environments", "kubernetes resources"), ("vso.environment_manage",) * 2),
    "projects": ("vso.project", "vso.project_write"),
    "pools": ("vso.agentpools", "vso.agentpools_manage"),
    "task groups": ("vso.taskgroups_read", "vso.taskgroups_manage"),
    "variable groups": ("vso.variablegroups_read", "vso.variablegroups_write"),
}
_INCLUDES = {
    "vso.build_execute": {"vso.build"},
    "vso.work_write": {"vso.work"},
    "vso.code_write": {"vso.code", "vso.code_status", "vso.threads_full"},
    "vso.serviceendpoint_manage": {"vso.serviceendpoint", "vso.serviceendpoint_query"},
    "vso.serviceendpoint_query": {"vso.serviceendpoint"},
}
# What deploy/README.md asks for.
ENOUGH = frozenset(
    {
        "vso.build_execute",
        "vso.code",
        "vso.identity",
        "vso.project",
        "vso.release",
        "vso.serviceendpoint",
        "vso.taskgroups_read",
        "vso.threads_full",
        "vso.variablegroups_read",
        "vso.work_write",
    }
)


@dataclass(frozen=True)
class Token:
    """A personal access token, or a bearer token that Entra issued."""

    kind: Literal["pat", "entra"] = "pat"
    scopes: frozenset[str] | None = None  # None: full access; a bearer token has no scopes
    expires_at: float | None = None  # seconds since 1970
    caller: dict[str, Any] | None = None  # whose it is; none: the organisation's own caller
    rights: frozenset[str] | None = None  # as Organisation.rights; none: those

    @property
    def valid(self) -> bool:
        """True until it expires."""
        return self.expires_at is None or time.time() < self.expires_at

    def allows(self, api: str, *, writes: bool) -> bool:
        """Return True when a scope of the token is enough for an API."""
        needed = _SCOPES.get(api)
        if needed is None or self.scopes is None:
            return True
        held = set(self.scopes).union(*(_INCLUDES.get(each, set()) for each in self.scopes))
        return needed[writes] in held


def presented(header: str) -> tuple[str, str]:
    """Return the kind and the secret of an Authorization header, two empty texts when there is none."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return "entra", value.strip()
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, secret = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return ("pat", secret) if not user else ("", "")
