"""The state of a played organisation: Azure DevOps' own JSON, in memory, behind one lock."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from triage.sandbox import security

if TYPE_CHECKING:
    from collections.abc import Callable

    from triage.sandbox.budget import Budget
    from triage.sandbox.tokens import Token

ISSUES_KEPT = 10  # errors, and warnings, that a timeline record keeps


@dataclass
class Fault:
    """A canned answer for the next calls that fit: what a test makes the service do."""

    method: str
    path: str  # regular expression on the decoded path
    times: int = 1
    status: int | None = None  # answer this instead of doing it
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay_seconds: float = 0.0
    drop: bool = False  # break the connection, do nothing
    lose_reply: bool = False  # do it, then break the connection
    replaced: bytes | None = None  # do it, then answer 200 with this body
    more_headers: dict[str, str] = field(default_factory=dict)  # do it, and answer with these as well
    # do it, then: truncated, wrong length, trickle; do nothing: reset, hang, unreachable
    wire: str = ""
    unreachable_seconds: float = 0.0  # reset, and for so long nobody can connect


@dataclass
class Project:
    """One project: everything by id, as the wire has it."""

    id: str
    name: str
    process: str = "Agile"
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    uses: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # execution history, newest first
    ends: dict[str, datetime] = field(default_factory=dict)  # of a connection's credential; else it works
    builds: dict[int, dict[str, Any]] = field(default_factory=dict)
    timelines: dict[int, dict[str, dict[str, Any]]] = field(default_factory=dict)
    current_timeline: dict[int, str] = field(default_factory=dict)
    logs: dict[int, dict[int, bytes]] = field(default_factory=dict)
    definitions: dict[int, dict[int, dict[str, Any]]] = field(default_factory=dict)
    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)
    pull_requests: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    threads: dict[tuple[str, int], list[dict[str, Any]]] = field(default_factory=dict)
    statuses: dict[tuple[str, int], list[dict[str, Any]]] = field(default_factory=dict)
    work_items: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    build_tags: dict[int, list[str]] = field(default_factory=dict)
    build_properties: dict[int, dict[str, Any]] = field(default_factory=dict)
    releases: dict[int, dict[str, Any]] = field(default_factory=dict)
    # release, environment, deploy phase, task
    release_logs: dict[tuple[int, int, int, int], bytes] = field(default_factory=dict)
    variable_groups: dict[int, dict[str, Any]] = field(default_factory=dict)
    environments: dict[int, dict[str, Any]] = field(default_factory=dict)  # with their `resources`
    task_groups: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # versions of each
    permitted: dict[int, list[str]] = field(default_factory=dict)  # connections a pipeline may use
    permitted_to_all: list[str] = field(default_factory=list)
    previews: dict[int, str] = field(default_factory=dict)  # a pipeline's YAML, expanded today
    commit_statuses: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    areas: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.areas.add(self.name)

    def reference(self) -> dict[str, Any]:
        """Return the project as other things refer to it."""
        return {
            "id": self.id,
            "name": self.name,
            "state": "wellFormed",
            "visibility": "private",
            "revision": 7,
        }


class Organisation:
    """A played organisation. Hold `lock` while reading or changing more than one thing."""

    def __init__(self, name: str = "contoso") -> None:
        self.name = name
        self.id = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        self.lock = threading.RLock()
        self.url = ""  # set by the server: http://127.0.0.1:<port>/<name>
        self.area_urls: dict[str, str] = {}  # where the service serves an area, by its id, when not there
        self.projects: dict[str, Project] = {}
        self.users: dict[str, dict[str, Any]] = {}  # identity refs, with `assignable`
        self.subscriptions: dict[str, dict[str, Any]] = {}
        self.notifications: dict[str, list[dict[str, Any]]] = {}
        self.ledger: list[dict[str, Any]] = []
        self.asked: deque[tuple[str, str]] = deque(maxlen=10_000)  # method and path of the last requests
        self.calls: Counter[str] = Counter()  # how often each API was called, reads included
        self.faults: list[Fault] = []
        self.budget: Budget | None = None  # how many requests it takes
        self.shut: Callable[[float], None] = lambda _: None  # lets nobody connect for so many seconds
        self.refuse_markdown = False  # as Azure DevOps Server does
        self.sign_in_page = ""  # "203" or "302": how an expired token is answered
        self.search_lag_seconds = 0.0  # how far behind WIQL is
        self.sign_in_visits = 0  # how often a redirect to the sign-in page was followed
        self.events_missing: set[str] = set()  # event types that it does not offer, as older servers do not
        self.allow_local_hooks = False  # the service refuses web hooks to this machine
        self.caller = {  # who the token belongs to
            "id": str(uuid.uuid5(uuid.UUID(self.id), "triage")),
            "displayName": "triage",
            "uniqueName": "triage@contoso.example",
            "descriptor": "aad.dHJpYWdl",
        }
        self.tokens: dict[str, Token] = {}  # by what is sent
        self.rights = security.ENOUGH  # "namespace/action" that the caller is allowed
        self.clock_ahead_seconds = 0.0  # what its Date header is wrong by
        self._next_id = 1

    def next_id(self) -> int:
        """Return a number that nothing else in the organisation has."""
        with self.lock:
            self._next_id += 1
            return self._next_id

    def add_project(self, name: str, *, process: str = "Agile") -> Project:
        """Add a project, or return the one of this name."""
        with self.lock:
            found = self.find_project(name)
            if found is None:
                found = Project(str(uuid.uuid5(uuid.UUID(self.id), name)), name, process)
                self.projects[found.id] = found
            return found

    def find_project(self, name_or_id: str) -> Project | None:
        """Return a project by id or name, in any case."""
        wanted = name_or_id.lower()
        return next((p for p in self.projects.values() if wanted in {p.id, p.name.lower()}), None)

    def add_user(
        self, unique_name: str, display_name: str, *, assignable: bool = True, **more: Any
    ) -> dict[str, Any]:
        """Add a person and return the identity reference."""
        identity = str(uuid.uuid5(uuid.UUID(self.id), unique_name))
        user = {
            "id": identity,
            "displayName": display_name,
            "uniqueName": unique_name,
            "descriptor": f"aad.{identity.replace('-', '')}",
            "assignable": assignable,
            **more,
        }
        self.users[identity] = user
        return _reference(user)

    def assignable(self, name: str) -> dict[str, Any] | None:
        """Return the person that a work item's assignee names, None when nobody or several are meant.

        The service takes a unique name, a display name that only one has, and `Name <unique name>`.
        """
        wanted = name[name.rfind("<") + 1 :].rstrip(">").strip().lower()
        users = [user for user in self.users.values() if user.get("assignable")]
        found = [user for user in users if str(user["uniqueName"]).lower() == wanted] or [
            user for user in users if str(user["displayName"]).lower() == wanted
        ]
        return _reference(found[0]) if len(found) == 1 else None

    def subscribe(
        self, url: str, *, event_type: str, username: str, password: str, **publisher_inputs: str
    ) -> str:
        """Add a web hook subscription and return its id."""
        number = str(uuid.uuid4())
        publisher, version = "pipelines", "5.1-preview.1"
        if event_type.startswith("ms.vss-release."):
            publisher, version = "rm", "3.0-preview.1"
        elif event_type == "build.complete":
            publisher, version = "tfs", "2.0"
        elif event_type.startswith("ms.vss-endpoint."):
            publisher, version = "tfs", "1.0"
        self.subscriptions[number] = {
            "id": number,
            "status": "enabled",
            "publisherId": publisher,
            "eventType": event_type,
            "resourceVersion": version,
            "consumerId": "webHooks",
            "consumerActionId": "httpRequest",
            "publisherInputs": publisher_inputs,
            "consumerInputs": {"url": url, "basicAuthUsername": username, "basicAuthPassword": password},
        }
        return number

    def subscribe_queue(
        self, connection_string: str, queue: str, *, event_type: str, bypass_serializer: bool = False
    ) -> str:
        """Add a subscription that puts events on a Service Bus queue and return its id."""
        number = self.subscribe("", event_type=event_type, username="", password="")
        self.subscriptions[number] |= {
            "consumerId": "azureServiceBus",
            "consumerActionId": "serviceBusQueueSend",
            "consumerInputs": {
                "connectionString": connection_string,
                "queueName": queue,
                "bypassSerializer": str(bypass_serializer).lower(),
            },
        }
        return number

    def keep_issues(self, record: dict[str, Any]) -> None:
        """Cut a timeline record's issues to what the service stores; the counts stay."""
        if not record.get("issues"):
            return
        kept = []
        for kind in ("error", "warning"):
            of_kind = [issue for issue in record["issues"] if issue["type"] == kind]
            record[f"{kind}Count"] = max(int(record.get(f"{kind}Count") or 0), len(of_kind))
            kept += of_kind[:ISSUES_KEPT]
        record["issues"] = kept


def _reference(user: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in user.items() if key not in {"assignable", "isActive"}}


def wire_time(moment: datetime | None = None) -> str:
    """Return a time as Azure DevOps writes it, to 100 nanoseconds."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "7Z"


def minutes_ago(minutes: float) -> datetime:
    """Return a moment in the past."""
    return datetime.now(UTC) - timedelta(minutes=minutes)


def sleep(seconds: float) -> None:
    """Wait, as a slow service does."""
    if seconds:
        time.sleep(seconds)
