"""Azure DevOps' service hook events. A pointer is all that is believed of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypeGuard
from urllib.parse import unquote, urlsplit

from triage.domain import RunRef

_GUID = re.compile(r"^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_NO_PROJECT = "00000000-0000-0000-0000-000000000000"
_PROJECT_IN_URL = re.compile(r"/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})/_apis/")
_MAX_ID = 2**31  # what Azure DevOps counts runs with
_PROJECT_NAME = re.compile(r"^(?![._ ])[^\\/:*?\"<>|;#$%&{},+=\[\]]{1,64}(?<![. ])$")
_FAILED = {"failed", "partiallysucceeded", "rejected"}
_TEXT_MAX = 200
_NEXT_STEP = "in the service hook subscription, set the resource details to send to All."


@dataclass(frozen=True)
class Notice:
    """What an event comes to."""

    kind: Literal["run", "connection", "ignored", "refused"]
    reason: str = ""  # why ignored or refused
    ref: RunRef | None = None
    connection: str = ""  # GUID of one that was changed
    marker: str = ""  # tells two finishes of one run, or two changes of one connection, apart, see jobs.put
    event_type: str = ""
    event_id: str = ""
    subscription_id: str = ""
    notification_id: int | None = None


def parse(body: bytes, organization_url: str) -> Notice:
    """Return what an event comes to; never raises, whatever the body holds."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return Notice("refused", "The body is not JSON, or nested too deeply.")
    if not isinstance(event, dict):
        return Notice("refused", "The body is no event: a JSON object was expected.")
    notification = event.get("notificationId")
    event_type = _text(event, "eventType")
    return replace(
        _foreign(event, organization_url) or _outcome(event, event_type),
        event_type=event_type,
        event_id=_text(event, "id"),
        subscription_id=_text(event, "subscriptionId"),
        notification_id=notification if _is_id(notification) else None,
    )


def _outcome(event: dict[str, Any], event_type: str) -> Notice:
    resource = _child(event, "resource")
    if event_type == "build.complete":
        return _build(event, resource)
    if event_type in {
        "ms.vss-pipelines.run-state-changed-event",
        "ms.vss-pipelines.stage-state-changed-event",
        "ms.vss-pipelines.job-state-changed-event",
    }:
        return _pipeline(event, resource, event_type.removeprefix("ms.vss-pipelines.").split("-", 1)[0])
    if event_type == "ms.vss-release.deployment-completed-event":
        return _release(event, resource)
    if event_type == "ms.vss-endpoint.endpoint-updated":
        return _endpoint(event, resource)
    if not event_type:
        return Notice("refused", "The event names no eventType.")
    return Notice("ignored", f"Events of type {event_type} tell of no failed run.")


def _build(event: dict[str, Any], resource: dict[str, Any]) -> Notice:
    # Resource version 1.0 has the result in `status`, as XAML builds had.
    old = _text(event, "resourceVersion").startswith("1.")
    result = _text(resource, "result") or (_text(resource, "status") if old else "")
    # A subscription that sends minimal details tells no result: the worker reads it.
    if result and result.lower() not in _FAILED:
        return Notice("ignored", f"The run ended as {result}, not failed.")
    marker = _second(_text(resource, "finishTime")) or _told(event)
    return _run(event, resource.get("id"), marker, _text(resource, "url"))


def _pipeline(event: dict[str, Any], resource: dict[str, Any], level: str) -> Notice:
    """A run, stage or job changed; a failed stage tells before the run has ended."""
    run, changed = _child(resource, "run"), _child(resource, level)
    state, result = _text(changed, "state"), _text(changed, "result")
    if not state:
        return Notice("refused", f"The event does not tell the {level}'s state; {_NEXT_STEP}")
    if state.lower() != "completed" or result.lower() not in _FAILED:
        return Notice("ignored", f"The {level} is {result or state}, not failed.")
    number: Any = run.get("id") if _is_id(run.get("id")) else resource.get("runId")
    ended = _text(run, "state").lower() == "completed"
    marker = _second(_text(run, "finishedDate")) if ended else ""
    if not marker and level != "run":
        marker = _part(resource, level)
    return _run(event, number, marker or _told(event), _text(run, "url"))


def _part(resource: dict[str, Any], level: str) -> str:
    """Return the marker of a stage or job that failed while its run goes on."""
    stage = _child(resource, "stage")
    name = _text(stage, "name") or _text(resource, "stageName")
    if level == "job":
        name = f"{name}.{_text(_child(resource, 'job'), 'name')}"
    attempt = stage.get("attempt")
    return f"{level}:{name}:{attempt if _is_id(attempt) else 1}"


def _release(event: dict[str, Any], resource: dict[str, Any]) -> Notice:
    environment = _child(resource, "environment")
    status = _text(environment, "status")
    if status.lower() not in _FAILED:
        return Notice("ignored", f"The deployment ended as {status or 'nothing'}, not failed.")
    release = _child(environment, "release")
    number = release.get("id") if _is_id(release.get("id")) else environment.get("releaseId")
    project = _project(event, resource, _text(release, "url"))
    if not project:
        name = _text(_child(resource, "project"), "name")  # some of these events hold no project's GUID
        project = name if _PROJECT_NAME.match(name) else ""
    stage = environment.get("id")
    if not project or not _is_id(number) or not _is_id(stage):
        return Notice("refused", f"The event names no project, release or environment; {_NEXT_STEP}")
    return Notice("run", ref=RunRef(project, number, "release", stage), marker=_told(event))


def _endpoint(event: dict[str, Any], resource: dict[str, Any]) -> Notice:
    """A connection was changed. What such an event looks like is not documented: each likely place is tried.

    One that cannot be read is no fault of the sender, and nothing is lost: open incidents are looked at
    anyway.
    """
    for given in (
        _text(resource, "endpointId"),
        _text(resource, "serviceEndpointId"),
        _text(_child(resource, "endpoint"), "id"),
        _text(_child(resource, "serviceEndpoint"), "id"),
        _text(resource, "id"),
    ):
        if _GUID.match(given) and given != _NO_PROJECT:
            told = _text(event, "id") or _told(event)
            return Notice("connection", connection=given.lower(), marker=told)
    return Notice(
        "ignored", "The event does not say which connection was changed; triage notices it by itself, later."
    )


def _run(event: dict[str, Any], number: Any, marker: str, url: str) -> Notice:
    project = _project(event, _child(event, "resource"), url)
    if not project or not _is_id(number):
        return Notice("refused", f"The event names no project or run; {_NEXT_STEP}")
    return Notice("run", ref=RunRef(project, number), marker=marker)


def _project(event: dict[str, Any], resource: dict[str, Any], url: str) -> str:
    """Return the project's GUID from wherever this event has it."""
    for given in (
        _text(_child(resource, "project"), "id"),
        _text(resource, "projectId"),
        (m[1] if (m := _PROJECT_IN_URL.search(url)) else ""),
        _text(_child(_child(event, "resourceContainers"), "project"), "id"),
    ):
        if _GUID.match(given) and given != _NO_PROJECT:
            return given.lower()
    return ""


def _foreign(event: dict[str, Any], organization_url: str) -> Notice | None:
    """Refuse what another organisation says of itself; an event without an address passes."""
    containers = _child(event, "resourceContainers")
    for name in ("collection", "account"):
        base = _text(_child(containers, name), "baseUrl")
        if base and not _same_organization(base, organization_url):
            return Notice("ignored", f"The event is of another organisation than {organization_url}.")
    return None


def _same_organization(given: str, ours: str) -> bool:
    return _organization(given) == _organization(ours)


def _organization(url: str) -> str:
    """Return dev.azure.com/contoso for each of its spellings, else host and path, in lower case."""
    try:
        parts = urlsplit(url.lower())
        host = parts.hostname or ""
        usual = {"https": 443, "http": 80}.get(parts.scheme)
        port = f":{parts.port}" if parts.port not in {None, usual} else ""
    except ValueError:
        return url
    if host.endswith(".visualstudio.com"):  # contoso, and contoso.vsrm for its releases
        return f"dev.azure.com/{host.split('.', 1)[0]}"
    path = parts.path.strip("/")
    if host == "dev.azure.com" or host.endswith(".dev.azure.com"):
        return f"dev.azure.com/{path.split('/', 1)[0]}"
    return f"{host}{port}/{unquote(path)}"


def _told(event: dict[str, Any]) -> str:
    """Return a marker for an event that does not say when its run ended."""
    created = _second(_text(event, "createdDate"))
    return f"told:{created}" if created else ""


def _second(time: str) -> str:
    """Return a time as whole seconds since 1970, "" when it is none."""
    try:
        return str(int(datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", time)).timestamp()))
    except (ValueError, OverflowError, OSError):
        return ""


def _is_id(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MAX_ID


def _child(body: Any, key: str) -> dict[str, Any]:
    value = body.get(key) if isinstance(body, dict) else None
    return value if isinstance(value, dict) else {}


def _text(body: Any, key: str) -> str:
    value = body.get(key) if isinstance(body, dict) else None
    return value[:_TEXT_MAX] if isinstance(value, str) and value.isprintable() else ""
