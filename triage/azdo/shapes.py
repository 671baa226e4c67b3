"""Azure DevOps' JSON as domain values. Every field may be missing, null or of another type."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from triage.domain import Connection, Identity, Issue, Run, RunRef, Task, TimelineRecord

_PULL_REQUEST = re.compile(r"^refs/pull/(\d+)/merge$")
_MAIL = re.compile(r"^[^@\s]+@[^@\s]+\.[^@\s]+$")
_SECRET_KEY = re.compile(
    r"key$|password|passphrase|secret|token$|kubeconfig|certificate|username|idtoken"
    r"|connectionstring|credential|sas(?:uri|url)?$|^pat$",
    re.IGNORECASE,
)


def run(ref: RunRef, body: Any, page: str) -> Run:
    """Return a Build as a run."""
    project, definition = child(body, "project"), child(body, "definition")
    repository, trigger = child(body, "repository"), child(body, "triggerInfo")
    branch = text(body, "sourceBranch")
    number = text(trigger, "pr.number") or (m[1] if (m := _PULL_REQUEST.match(branch)) else "")
    return Run(
        ref=ref,
        project_id=text(project, "id") or ref.project,
        project_name=text(project, "name") or ref.project,
        number=text(body, "buildNumber") or str(ref.id),
        pipeline_id=whole(definition, "id") or 0,
        pipeline_name=text(definition, "name"),
        pipeline_revision=whole(definition, "revision"),
        status=text(body, "status"),
        result=text(body, "result") or "none",
        reason=text(body, "reason"),
        source_branch=branch,
        source_version=text(body, "sourceVersion"),
        url=page,
        repository_id=text(repository, "id") or None,
        repository_type=text(repository, "type") or None,
        repository_name=text(repository, "name") or None,
        pull_request=int(number) if number.isdigit() else None,
        is_fork=text(trigger, "pr.isFork").lower() == "true",
        variables=_queued(text(body, "parameters")),
        requested_for=identity(body.get("requestedFor")),
        requested_by=identity(body.get("requestedBy")),
        finished_at=moment(text(body, "finishTime")),
        started_at=moment(text(body, "startTime")),
        validation_errors=tuple(
            text(each, "message")
            for each in items(body, "validationResults")
            if text(each, "result") == "error"
        ),
        tags=tuple(str(tag) for tag in body.get("tags") or []),
        asked=_asked(body),
    )


def record(body: Any) -> TimelineRecord:
    """Return a timeline's record."""
    task, log = child(body, "task"), child(body, "log")
    return TimelineRecord(
        id=text(body, "id"),
        parent_id=text(body, "parentId") or None,
        type=text(body, "type"),
        name=text(body, "name"),
        state=text(body, "state"),
        result=text(body, "result") or None,
        attempt=whole(body, "attempt") or 1,
        order=whole(body, "order"),
        identifier=text(body, "identifier") or None,
        ref_name=text(body, "refName") or None,
        log_id=whole(log, "id"),
        task=Task(text(task, "id"), text(task, "name"), text(task, "version")) if task else None,
        issues=tuple(_issue(each) for each in items(body, "issues")),
        error_count=whole(body, "errorCount") or 0,
        finished_at=moment(text(body, "finishTime")),
    )


def _asked(body: Any) -> str:
    """Return the digest of the parameters and variables that a run was queued with, "" without any."""
    given = [body.get("templateParameters") or None, text(body, "parameters") or None]
    if given == [None, None]:
        return ""
    return hashlib.sha256(msgspec.json.encode(given, order="deterministic")).hexdigest()[:16]


def _issue(body: Any) -> Issue:
    number = text(child(body, "data"), "logFileLineNumber")
    kind = "warning" if text(body, "type") == "warning" else "error"
    return Issue(kind, text(body, "message"), int(number) if number.isdigit() else None)  # type: ignore[arg-type]


def connection(body: Any, project_id: str, page: str) -> Connection:
    """Return a service endpoint as one project sees it, without its secrets."""
    authorization, data = child(body, "authorization"), _plain(child(body, "data"))
    name, description = text(body, "name"), text(body, "description")
    for reference in items(body, "serviceEndpointProjectReferences"):
        if text(child(reference, "projectReference"), "id").lower() == project_id.lower():
            name = text(reference, "name") or name
            description = text(reference, "description") or description
    group = identity(body.get("administratorsGroup"))
    return Connection(
        id=text(body, "id").lower(),
        name=name,
        type=text(body, "type").lower(),
        scheme=text(authorization, "scheme").lower(),
        project_id=project_id,
        url=page,
        server_url=text(body, "url"),
        description=description,
        parameters=_plain(child(authorization, "parameters")),
        data=data,
        created_by=identity(body.get("createdBy")),
        modified_by=identity(body.get("modifiedBy")),
        created_at=moment(text(body, "creationDate")),
        modified_at=moment(text(body, "modificationDate")),
        administrators=(group,) if group else (),
        service_management_reference=text(body, "serviceManagementReference") or None,
        is_ready=body.get("isReady") is not False,
        is_shared=body.get("isShared") is True,
        project_count=len(items(body, "serviceEndpointProjectReferences")),
        is_disabled=body.get("isDisabled") is True,
        operation_message=text(child(body, "operationStatus"), "statusMessage"),
        revert_until=moment(data.get("revertschemedeadline", "")),
    )


def _plain(mapping: dict[str, Any]) -> dict[str, str]:
    """Return lower-case keys and texts, leaving out whatever could be a secret."""
    return {
        key.lower(): value
        for key, value in mapping.items()
        if isinstance(value, str) and value and not _SECRET_KEY.search(key)
    }


def identity(body: Any) -> Identity | None:
    """Return an IdentityRef, None when there is none."""
    if not isinstance(body, dict) or not text(body, "id"):
        return None
    descriptor = text(body, "descriptor")
    return Identity(
        id=text(body, "id"),
        display_name=text(body, "displayName"),
        unique_name=text(body, "uniqueName") or None,
        descriptor=descriptor or None,
        is_container=body.get("isContainer") is True or descriptor.startswith("vssgp."),
    )


def member(body: Any) -> Identity | None:
    """Return a person of the organisation's directory, None when there is none or they have left."""
    if not isinstance(body, dict) or body.get("isActive") is False:
        return None
    properties = child(body, "properties")
    mail, account = (text(child(properties, name), "$value") for name in ("Mail", "Account"))
    return identity(
        {
            "displayName": text(body, "providerDisplayName"),
            "uniqueName": account if _MAIL.match(account) and "#EXT#" not in account else mail,
            **body,
            "descriptor": text(body, "subjectDescriptor"),
        }
    )


def variables(table: Any) -> dict[str, str]:
    """Return variables with names in lower case; a secret's value is its own reference, so nobody guesses."""
    return {
        str(name).lower(): f"$({name})" if value.get("isSecret") is True else str(value.get("value") or "")
        for name, value in (table.items() if isinstance(table, dict) else ())
        if isinstance(value, dict)
    }


def _queued(parameters: str) -> dict[str, str]:
    """Return the variables that were given when the run was queued: a JSON object, as text."""
    try:
        given = json.loads(parameters) if parameters else {}
    except (ValueError, RecursionError):
        return {}
    given = given if isinstance(given, dict) else {}
    return {str(name).lower(): value for name, value in given.items() if isinstance(value, str)}


def moment(value: str) -> datetime | None:
    """Return a time that Azure DevOps wrote, to the microsecond."""
    found = re.match(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,6})?\d*(Z|[+-]\d\d:\d\d)?$", value)
    if found is None:
        return None
    zone = "+00:00" if found[3] in {None, "Z"} else found[3]
    return datetime.fromisoformat(found[1] + (found[2] or "") + zone).astimezone(UTC)


def child(body: Any, key: str) -> dict[str, Any]:
    """Return an object in an object, {} when it is none."""
    value = body.get(key) if isinstance(body, dict) else None
    return value if isinstance(value, dict) else {}


def items(body: Any, key: str) -> list[Any]:
    """Return a list of objects in an object, [] when it is none."""
    value = body.get(key) if isinstance(body, dict) else None
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text(body: Any, key: str) -> str:
    """Return a text in an object, "" when it is none."""
    value = body.get(key) if isinstance(body, dict) else None
    return value if isinstance(value, str) else ""


def whole(body: Any, key: str) -> int | None:
    """Return a whole number in an object, None when it is none."""
    value = body.get(key) if isinstance(body, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
