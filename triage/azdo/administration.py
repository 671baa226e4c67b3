"""What set-up and diagnosis ask of Azure DevOps: projects, service hooks, the caller and its rights."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from triage.azdo import shapes, urls
from triage.azdo.wire import NotThere
from triage.errors import AccessRefused, Cancel, RetryLater

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from triage.azdo.door import Door

# Resource areas and locations, as the SDK's clients name them (azure-devops 7.1.0b4).
_BUILD = "965220d5-5bb9-42cf-8d67-9b146df2a5a4"
_ENDPOINT = "1814ab31-2f4f-4a9f-8761-f4d77dc5a5d7"
_WORK = "5264459e-e5e0-4bd8-b118-0985e68a4ec5"
_GIT = "4e080c62-fa21-4fbc-8fef-2a10a2b38049"
_IDENTITY = "8a3d49b8-91f0-46ef-b33d-dda338c25db3"
_AGENTS = "a85b8835-c1a1-4aac-ae97-1c3d0ba72dbd"

_CALLER = ("", "00d9565f-ed9c-4a06-9a50-00e7896ccab4", "7.1-preview.1")
_SUBSCRIPTIONS = ("", "fc50d02a-849f-41fb-8af1-0a5216103269", "7.1-preview.1")
_EVENT_TYPES = ("", "db4777cd-8e08-4a84-8ba3-c974ea033718", "7.1-preview.1")
_NOTIFICATIONS = ("", "0c62d343-21b0-4732-997b-017fde84dc28", "7.1-preview.1")
_NAMESPACES = ("", "ce7b9f95-fde9-4be8-a86d-83b366f0b87a", "7.1-preview.1")
_EVALUATIONS = ("", "cf1faa59-1b63-4448-bf04-13d981a46f5d", "7.1-preview.1")
_NODES = (_WORK, "5a172953-1b41-49d3-840a-33f79c3ce89f", "7.1-preview.2")

# One harmless read of each API, by a name of ours: location, and what to ask besides the project.
_READS: dict[str, tuple[tuple[str, str, str], Mapping[str, str | int], Mapping[str, str | int]]] = {
    "builds": ((_BUILD, "0cd358e1-9217-4d94-8269-1c1ee6f93dcf", "7.1-preview.7"), {}, {"$top": 1}),
    "service connections": ((_ENDPOINT, "e85f1c62-adfc-4b74-b618-11a150fb195e", "7.1-preview.4"), {}, {}),
    "work item types": ((_WORK, "7c8d7a76-4a09-43e8-b5df-bd792f4ac6aa", "7.1-preview.2"), {}, {}),
    "repositories": ((_GIT, "225f7195-f9c7-4d14-ab28-a83f7ff77e1f", "7.1-preview.1"), {}, {}),
    "agent pools": ((_AGENTS, "a8c47e17-4d56-4a56-92bb-de7ea7dc65be", "7.1-preview.1"), {}, {}),
}
_WITHOUT_PROJECT = {"agent pools"}
_IDENTITIES = (_IDENTITY, "28010c54-d0c0-4c89-a5b0-1c9e188b9fb7", "7.1-preview.1")


@dataclass(frozen=True)
class Project:
    """A project of the organisation."""

    id: str
    name: str


@dataclass(frozen=True)
class Caller:
    """Who triage is to the organisation, and when it said so."""

    id: str
    name: str
    unique_name: str
    server_time: datetime | None  # of the Date header


@dataclass(frozen=True)
class Subscription:
    """A service hook subscription as the service keeps it. Confidential inputs are masked there."""

    id: str
    status: str  # enabled, onProbation, disabledByUser, disabledBySystem, disabledByInactiveIdentity
    publisher: str
    event_type: str
    resource_version: str
    consumer: str
    action: str
    publisher_inputs: Mapping[str, str] = field(default_factory=dict)
    consumer_inputs: Mapping[str, str] = field(default_factory=dict, repr=False)
    created_by: str = ""
    probation_retries: int = 0
    last_success_at: datetime | None = None

    @property
    def project_id(self) -> str:
        """Return the project it is for, "" for the whole organisation."""
        return self.publisher_inputs.get("projectId", "").lower()


@dataclass(frozen=True)
class Notification:
    """One event that was, or was not, delivered."""

    id: int
    status: str  # queued, processing, requestInProgress, queuedForRetry, completed
    result: str  # pending, succeeded, failed, filtered
    created_at: datetime | None
    error: str  # what the service says of it; "" when nothing


@dataclass(frozen=True)
class Right:
    """One action of a security namespace, on one of its tokens."""

    namespace: str  # GUID
    token: str
    action: str


def caller(door: Door) -> Caller:
    """Return who the credential belongs to. Raises AccessRefused when it is not accepted."""
    body, headers = door.wire.send("GET", *_CALLER)
    user = shapes.child(body, "authenticatedUser")
    account = shapes.child(shapes.child(user, "properties"), "Account")
    try:
        told = parsedate_to_datetime(headers.get("Date", ""))
    except (TypeError, ValueError):
        told = None
    return Caller(
        shapes.text(user, "id"),
        shapes.text(user, "providerDisplayName") or shapes.text(user, "customDisplayName"),
        shapes.text(account, "$value"),
        told,
    )


def projects(door: Door) -> list[Project]:
    """Return every project that the credential may see, by name."""
    found = [Project(number, name) for number, name in door.projects()]
    return sorted(found, key=lambda project: project.name.lower())


def subscriptions(door: Door, consumer: str) -> list[Subscription]:
    """Return the subscriptions of one consumer (webHooks, azureServiceBus) in the whole organisation."""
    body = door.wire.get(*_SUBSCRIPTIONS, query={"consumerId": consumer})
    return [subscription(each) for each in shapes.items(body, "value")]


def event_versions(door: Door, publisher: str, event_type: str) -> tuple[str, ...] | None:
    """Return the resource versions of an event, None when the service does not offer it to triage."""
    try:
        body = door.wire.get(*_EVENT_TYPES, route={"publisherId": publisher, "eventTypeId": event_type})
    except (AccessRefused, Cancel):
        return None
    versions = body.get("supportedResourceVersions") if isinstance(body, dict) else None
    return tuple(each for each in versions if isinstance(each, str)) if isinstance(versions, list) else ()


def create_subscription(door: Door, content: Mapping[str, Any]) -> Subscription:
    """Create a subscription; it is in force at once."""
    body, _ = door.wire.send("POST", *_SUBSCRIPTIONS, content=content)
    return _kept(body)


def replace_subscription(door: Door, number: str, content: Mapping[str, Any]) -> Subscription:
    """Replace a subscription whole, secrets too."""
    body, _ = door.wire.send("PUT", *_SUBSCRIPTIONS, route={"subscriptionId": number}, content=content)
    return _kept(body)


def delete_subscription(door: Door, number: str) -> None:
    """Delete a subscription; one that is gone already is fine."""
    try:
        door.wire.send("DELETE", *_SUBSCRIPTIONS, route={"subscriptionId": number})
    except NotThere:
        return


def notifications(door: Door, number: str, *, top: int) -> list[Notification]:
    """Return a subscription's last notifications, newest first."""
    try:
        body = door.wire.get(*_NOTIFICATIONS, route={"subscriptionId": number}, query={"maxResults": top})
    except NotThere:
        return []
    return [_notification(each) for each in shapes.items(body, "value")][:top]


def may_read(door: Door, what: str, project: Project) -> None:
    """Try one harmless read. Raises AccessRefused or NotThere when it is not allowed."""
    if what == "identities":
        door.wire.get(*_IDENTITIES, query={"searchFilter": "General", "filterValue": "triage"})
        return
    location, route, query = _READS[what]
    own = {} if what in _WITHOUT_PROJECT else {"project": project.id}
    door.wire.get(*location, route={**own, **route}, query=query)


def area_token(door: Door, project: Project) -> str:
    """Return the security token of a project's root area."""
    body = door.wire.get(*_NODES, route={"project": project.id, "structureGroup": "areas"})
    identifier = shapes.text(body, "identifier")
    if not urls.GUID.match(identifier):
        raise RetryLater(f"Azure DevOps tells no identifier of the area of {project.name}.")
    return f"vstfs:///Classification/Node/{identifier}"


def evaluate(door: Door, rights: Sequence[Right]) -> dict[Right, bool]:
    """Return which rights the caller has, by the service's own reckoning. Writes nothing.

    A right whose namespace has no such action is left out.
    """
    bits = {
        namespace: _bits(door, namespace) for namespace in dict.fromkeys(right.namespace for right in rights)
    }
    known = [right for right in rights if right.action in bits[right.namespace]]
    if not known:
        return {}
    asked = [
        {
            "securityNamespaceId": right.namespace,
            "token": right.token,
            "permissions": bits[right.namespace][right.action],
        }
        for right in known
    ]
    body, _ = door.wire.send(
        "POST", *_EVALUATIONS, content={"alwaysAllowAdministrators": False, "evaluations": asked}
    )
    answers = shapes.items(body, "evaluations")
    if len(answers) != len(known):
        raise RetryLater("Azure DevOps evaluated other permissions than were asked.")
    return {right: answer.get("value") is True for right, answer in zip(known, answers, strict=True)}


def _bits(door: Door, namespace: str) -> dict[str, int]:
    """Return the bit of each action of a namespace; the service knows them best."""
    try:
        body = door.wire.get(*_NAMESPACES, route={"securityNamespaceId": namespace})
    except Cancel:
        return {}
    return {
        shapes.text(action, "name"): shapes.whole(action, "bit") or 0
        for each in shapes.items(body, "value")
        for action in shapes.items(each, "actions")
    }


def subscription(body: Any) -> Subscription:
    """Return a subscription's JSON as a value."""
    return Subscription(
        id=shapes.text(body, "id"),
        status=shapes.text(body, "status"),
        publisher=shapes.text(body, "publisherId"),
        event_type=shapes.text(body, "eventType"),
        resource_version=shapes.text(body, "resourceVersion"),
        consumer=shapes.text(body, "consumerId"),
        action=shapes.text(body, "consumerActionId"),
        publisher_inputs=_texts(shapes.child(body, "publisherInputs")),
        consumer_inputs=_texts(shapes.child(body, "consumerInputs")),
        created_by=shapes.text(shapes.child(body, "createdBy"), "displayName"),
        probation_retries=shapes.whole(body, "probationRetries") or 0,
        last_success_at=shapes.moment(shapes.text(body, "lastSuccessfulAttemptDate")),
    )


def _kept(body: Any) -> Subscription:
    kept = subscription(body)
    if not urls.GUID.match(kept.id):
        raise RetryLater("Azure DevOps' answer holds no subscription.")
    return kept


def _notification(body: Any) -> Notification:
    details = shapes.child(body, "details")
    return Notification(
        id=shapes.whole(body, "id") or 0,
        status=shapes.text(body, "status"),
        result=shapes.text(body, "result"),
        created_at=shapes.moment(shapes.text(body, "createdDate")),
        error=_printable(shapes.text(details, "errorMessage")),
    )


def _printable(text: str) -> str:
    """Return what a receiver was told to have answered, fit for a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:200])


def _texts(mapping: Mapping[str, Any]) -> dict[str, str]:
    return {key: value for key, value in mapping.items() if isinstance(value, str)}
