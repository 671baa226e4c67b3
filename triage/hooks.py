"""The service hook subscriptions that tell triage of failed runs: wanted, there, and made the same."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from triage.azdo import administration
from triage.errors import AccessRefused, Cancel, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from triage.azdo import Door
    from triage.azdo.administration import Notification, Project, Subscription
    from triage.config import Hook

PATH = "/hooks/azure-devops"
MASK = "********"
_SECRETS = frozenset({"basicAuthPassword", "connectionString"})
_FORM = {"resourceDetailsToSend": "", "messagesToSend": "none", "detailedMessagesToSend": "none"}  # "": all
_QUEUE = re.compile(r"^[A-Za-z0-9](?:[\w\-./]{0,48}[A-Za-z0-9])?$", re.ASCII)
_UNAUTHORIZED = re.compile(r"\b40[13]\b")
# What each state means and what to do; azure-devops.md 2.2.
_STATES = {
    "onProbation": "triage answered an event with an error, or not at all; Azure DevOps drops every event "
    "until its next try, which comes after 20 minutes at first and after 15 hours at last",
    "disabledBySystem": "every try of its probation failed; Azure DevOps sends nothing any more",
    "disabledByInactiveIdentity": "who created it has left the organisation; Azure DevOps sends nothing",
    "disabledByUser": "a person switched it off",
}
_BROKEN = frozenset({"onProbation", "disabledBySystem", "disabledByInactiveIdentity"})


@dataclass(frozen=True)
class Event:
    """A kind of event, and the filter that leaves only failures of it."""

    label: str
    publisher: str
    type: str
    version: str
    filters: Mapping[str, str]
    is_optional: bool = False  # triage works without it, only later


BUILDS = (
    Event("run failed", "tfs", "build.complete", "2.0", {"definitionName": "", "buildStatus": "Failed"}),
    # A failed step that may continue hides an expired credential just as well.
    Event(
        "run partially succeeded",
        "tfs",
        "build.complete",
        "2.0",
        {"definitionName": "", "buildStatus": "PartiallySucceeded"},
    ),
)
RELEASES = (
    Event(
        "deployment failed",
        "rm",
        "ms.vss-release.deployment-completed-event",
        "3.0-preview.1",
        {"releaseDefinitionId": "", "releaseEnvironmentId": "", "releaseEnvironmentStatus": "16"},
    ),
)
# Its payload and its resource versions are not documented: the service is asked for them.
CONNECTIONS = Event(
    "connection changed", "tfs", "ms.vss-endpoint.endpoint-updated", "1.0", {}, is_optional=True
)
_VERSION = re.compile(r"(\d+)\.(\d+)(?:-preview(?:\.(\d+))?)?", re.ASCII)


@dataclass(frozen=True)
class Target:
    """Where Azure DevOps sends events to."""

    consumer: str
    action: str
    key: str  # the input that names it
    name: str  # URL, queue or topic
    inputs: Mapping[str, str] = field(repr=False)  # all consumer inputs, secrets too

    def is_of(self, there: Subscription) -> bool:
        """Return True when a subscription sends to this place."""
        given = there.consumer_inputs.get(self.key, "")
        return (there.consumer, there.action) == (self.consumer, self.action) and _same(given, self.name)


@dataclass(frozen=True)
class Wanted:
    """A subscription that should exist."""

    project: Project
    event: Event
    target: Target

    def content(self) -> dict[str, Any]:
        """Return it as the service takes it; every value of its inputs is a text."""
        return {
            "publisherId": self.event.publisher,
            "eventType": self.event.type,
            "resourceVersion": self.event.version,
            "consumerId": self.target.consumer,
            "consumerActionId": self.target.action,
            "publisherInputs": {"projectId": self.project.id, **self.event.filters},
            "consumerInputs": dict(self.target.inputs),
        }


@dataclass(frozen=True)
class Step:
    """What there is to do about one subscription, and why."""

    kind: Literal["keep", "create", "update", "recreate", "remove", "leave"]
    wanted: Wanted
    there: Subscription | None = None
    reason: str = ""


@dataclass(frozen=True)
class HookStatus:
    """How one wanted subscription stands."""

    project: str
    event: str
    state: str  # missing, or the service's own word
    subscription_id: str = ""
    problem: str = ""  # "" when all is well
    fix: str = ""
    created_by: str = ""
    last_success: str = ""  # ISO 8601, UTC
    failures: tuple[str, ...] = ()  # of the last notifications, newest first: when, and what was answered

    @property
    def ok(self) -> bool:
        """True when events arrive."""
        return not self.problem


def web_hook(hook: Hook, public_url: str, *, local: bool = False) -> Target:
    """Return triage's own web hook as a target; `local` allows a played organisation's plain http.

    Raises UsageError when Azure DevOps could not send to it.
    """
    url = public_url.rstrip("/")
    parts = urlsplit(url)
    if not parts.hostname:
        raise UsageError(
            "server.public_url is not set. Say how Azure DevOps reaches triage: "
            "TRIAGE_SERVER__PUBLIC_URL=https://triage.contoso.example, or --url."
        )
    if parts.scheme != "https" and not local:
        raise UsageError(
            f"{url}: Azure DevOps sends a password only over https. Put a TLS proxy in front of triage and "
            "set server.public_url to its address."
        )
    inputs = {"url": url if url.endswith(PATH) else url + PATH, **_FORM}
    if hook.password and hook.password.get_secret_value():
        inputs |= {
            "basicAuthUsername": hook.username,
            "basicAuthPassword": hook.password.get_secret_value(),
        }
    elif hook.header_value and hook.header_value.get_secret_value():
        inputs["httpHeaders"] = f"{hook.header_name}:{hook.header_value.get_secret_value()}"
    else:
        raise UsageError("hook.password is not set: set a long random one (TRIAGE_HOOK__PASSWORD).")
    return Target("webHooks", "httpRequest", "url", inputs["url"], inputs)


def service_bus(queue: str, connection_string: str, *, topic: bool = False) -> Target:
    """Return a Service Bus queue or topic as a target.

    Raises UsageError when the name or the connection string cannot be right.
    """
    if not _QUEUE.match(queue):
        raise UsageError(
            f"{queue!r} is no name of a queue that Azure DevOps takes: at most 50 letters, digits and - . / _"
        )
    if not connection_string.startswith("Endpoint=sb://") or "SharedAccessKey=" not in connection_string:
        raise UsageError(
            "The connection string for Azure DevOps is missing or none of Service Bus: it begins with "
            "Endpoint=sb:// and holds a SharedAccessKey with the right to send. Azure DevOps knows no "
            "managed identity here. Set TRIAGE_SEND_CONNECTION_STRING."
        )
    key, action = ("topicName", "serviceBusTopicSend") if topic else ("queueName", "serviceBusQueueSend")
    inputs = {"connectionString": connection_string, key: queue, **_FORM}
    return Target("azureServiceBus", action, key, queue, inputs)


def wanted(projects: Iterable[Project], target: Target, events: Iterable[Event] = BUILDS) -> list[Wanted]:
    """Return the subscriptions that these projects should have."""
    kinds = tuple(events)
    return [Wanted(project, event, target) for project in projects for event in kinds]


def offered(door: Door, event: Event) -> Event | None:
    """Return an event in the newest version that the service has of it, None when it offers none."""
    versions = administration.event_versions(door, event.publisher, event.type)
    if versions is None:
        return None
    known = [each for each in versions if _VERSION.fullmatch(each)]
    return replace(event, version=max(known, key=_age)) if known else event


def _age(version: str) -> tuple[int, int, bool, int]:
    """Return what to compare versions by; one that was released is newer than its previews."""
    major, minor, preview = (int(each or 0) for each in _VERSION.fullmatch(version).groups())  # type: ignore[union-attr]
    return major, minor, "-preview" not in version, preview


def compare(
    wanted: Sequence[Wanted], there: Sequence[Subscription], *, refused: Collection[str] = ()
) -> list[Step]:
    """Return what is to be done so that everything wanted is there once, and works.

    `refused` are ids of subscriptions whose last delivery our own door turned away: their password differs
    from ours, which the service does not let us read back.
    """
    steps: list[Step] = []
    for each in wanted:
        found = sorted(
            (one for one in there if _covers(one, each)),
            key=lambda one: (not _exactly(one, each), one.status != "enabled", one.id),
        )
        if not found:
            steps.append(Step("create", each, reason="there is none"))
            continue
        first, *others = found
        steps.append(_step(each, first, refused))
        steps += [
            Step("remove", each, other, "it is there twice") for other in others if _exactly(other, each)
        ]
    return steps


def _step(wanted: Wanted, there: Subscription, refused: Collection[str]) -> Step:
    if there.status in _BROKEN:
        return Step("recreate", wanted, there, _STATES[there.status])
    if there.status == "disabledByUser":
        return Step("leave", wanted, there, _STATES[there.status])
    if not _exactly(there, wanted):
        return Step("keep", wanted, there, "a wider subscription covers it")
    if changed := _differences(wanted, there):
        return Step("update", wanted, there, f"{' and '.join(changed)} {_is(changed)} different")
    if there.id in refused:
        return Step("update", wanted, there, "triage refused its last event: the password is another")
    return Step("keep", wanted, there)


def _covers(there: Subscription, wanted: Wanted) -> bool:
    """Return True when a subscription lets through all that is wanted, and perhaps more."""
    return (
        wanted.target.is_of(there)
        and there.event_type == wanted.event.type
        and there.project_id in {"", wanted.project.id}
        and all(
            there.publisher_inputs.get(key, "") in {"", value} for key, value in wanted.event.filters.items()
        )
    )


def _exactly(there: Subscription, wanted: Wanted) -> bool:
    return there.project_id == wanted.project.id and all(
        there.publisher_inputs.get(key, "") == value for key, value in wanted.event.filters.items()
    )


def _differences(wanted: Wanted, there: Subscription) -> list[str]:
    changed = [] if there.resource_version == wanted.event.version else ["resourceVersion"]
    for key in sorted({*wanted.target.inputs, "basicAuthUsername", "httpHeaders"} - _SECRETS):
        ours, theirs = wanted.target.inputs.get(key, ""), there.consumer_inputs.get(key, "")
        if key == wanted.target.key:
            continue  # the same place, perhaps in another spelling
        if key == "httpHeaders" and MASK in theirs:
            ours, theirs = ours.partition(":")[0], theirs.partition(":")[0]
        if ours != theirs:
            changed.append(key)
    return changed


def _is(changed: Sequence[str]) -> str:
    return "is" if len(changed) == 1 else "are"


def status(door: Door, wanted: Sequence[Wanted], *, notifications: int = 10) -> list[HookStatus]:
    """Return how each wanted subscription stands, asking for so many of its last notifications (0: none).

    Writes nothing. One request for all subscriptions, and one for each that is there.
    """
    there = _there(door, wanted)
    history = _histories(door, wanted, there, notifications)
    steps = compare(wanted, there, refused=_refused(history))
    return [_status(step, history) for step in steps]


def install(door: Door, wanted: Sequence[Wanted], *, repair: bool = False) -> list[Step]:
    """Create what is missing and update what differs; with `repair` replace what Azure DevOps switched off.

    Returns what was done. Doing it again does nothing more.
    """
    there = _there(door, wanted)
    history = _histories(door, wanted, there, 1) if repair else {}
    done = []
    for planned in compare(wanted, there, refused=_refused(history)):
        step = planned
        if step.kind in {"recreate", "remove"} and not repair:
            step = replace(step, kind="leave", reason=f"{step.reason}: `triage hooks repair`")
        try:
            _carry_out(door, step)
        except (AccessRefused, Cancel) as refusal:
            if not step.wanted.event.is_optional:
                raise
            step = replace(step, kind="leave", reason=f"triage does without: {refusal}")
        done.append(step)
    return done


def subscribed(door: Door, target: Target, projects: Sequence[Project]) -> list[Project]:
    """Return those projects that have a subscription to a target already."""
    there = administration.subscriptions(door, target.consumer)
    known = {each.project_id for each in there if target.is_of(each)}
    return [each for each in projects if each.id in known or "" in known]


def _carry_out(door: Door, step: Step) -> None:
    number = step.there.id if step.there else ""
    if step.kind in {"create", "recreate"}:
        administration.create_subscription(door, step.wanted.content())  # first: no event falls in between
    if step.kind == "update":
        administration.replace_subscription(door, number, {"id": number, **step.wanted.content()})
    if step.kind in {"recreate", "remove"}:
        administration.delete_subscription(door, number)


def _there(door: Door, wanted: Sequence[Wanted]) -> list[Subscription]:
    consumers = dict.fromkeys(each.target.consumer for each in wanted)
    return [one for consumer in consumers for one in administration.subscriptions(door, consumer)]


def _histories(
    door: Door, wanted: Sequence[Wanted], there: Sequence[Subscription], top: int
) -> dict[str, list[Notification]]:
    if not top:
        return {}
    ours = [one for one in there if any(_covers(one, each) for each in wanted)]
    return {one.id: administration.notifications(door, one.id, top=top) for one in ours}


def _refused(history: Mapping[str, Sequence[Notification]]) -> set[str]:
    return {number for number, told in history.items() if told and _turned_away(told[0])}


def _turned_away(notification: Notification) -> bool:
    return notification.result == "failed" and bool(_UNAUTHORIZED.search(notification.error))


def _status(step: Step, history: Mapping[str, Sequence[Notification]]) -> HookStatus:
    there, event = step.there, step.wanted.event.label
    if there is None and step.wanted.event.is_optional:
        return HookStatus(step.wanted.project.name, event, "not there; `triage hooks install` adds it")
    if there is None:
        project = step.wanted.project.name
        fix = f"`triage hooks install --project {shlex.quote(project)}`"
        return HookStatus(project, event, "missing", problem="it does not exist", fix=fix)
    told = history.get(there.id, [])
    failures = tuple(
        f"{n.created_at.isoformat() if n.created_at else 'once'}: {n.error or 'no answer'}"
        for n in told
        if n.result == "failed"
    )
    problem = "" if step.kind == "keep" else step.reason
    fix = "`triage hooks repair`"
    if step.kind == "leave":
        fix = "enable it in Project settings, Service hooks"
    if not problem and told and told[0].result == "failed":
        problem, fix = (
            f"the last event could not be delivered: {told[0].error}",
            "see triage's log at that time",
        )
    return HookStatus(
        step.wanted.project.name,
        event,
        there.status,
        there.id,
        problem,
        fix if problem else "",
        there.created_by,
        there.last_success_at.isoformat() if there.last_success_at else "",
        failures,
    )


def _same(one: str, other: str) -> bool:
    """Return True for the same URL in another spelling, or the same name of a queue."""
    return _plain(one) == _plain(other) != ""


def _plain(name: str) -> str:
    try:
        parts = urlsplit(name)
        if not parts.hostname:
            return name.lower()
        standard = {"https": 443, "http": 80}.get(parts.scheme)
        port = f":{parts.port}" if parts.port not in {None, standard} else ""
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path.rstrip('/')}"
