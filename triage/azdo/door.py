"""What triage asks of Azure DevOps and tells it, one method each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from triage.azdo import releases, shapes, sign_in, urls
from triage.azdo.gate import Gate, LocalGate
from triage.azdo.limits import Limits
from triage.azdo.memory import Memory
from triage.azdo.wire import NotThere, Wire, listed
from triage.domain import RunRef
from triage.errors import AccessRefused, Cancel, RetryLater, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from triage.azdo.sign_in import SignIn
    from triage.config import AzureDevOps
    from triage.domain import Connection, Identity, Run, TimelineRecord

    _Route = Mapping[str, str | int]

_Shown = TypeVar("_Shown")

# Resource areas and locations, as the SDK's clients name them (azure-devops 7.1.0b4).
_BUILD = "965220d5-5bb9-42cf-8d67-9b146df2a5a4"
_ENDPOINT = "1814ab31-2f4f-4a9f-8761-f4d77dc5a5d7"
_WORK = "5264459e-e5e0-4bd8-b118-0985e68a4ec5"
_GIT = "4e080c62-fa21-4fbc-8fef-2a10a2b38049"
_RELEASE = "efc2f575-36ef-48e9-b672-0c6fb4a48ac5"  # served by vsrm.dev.azure.com
_LIBRARY = "a85b8835-c1a1-4aac-ae97-1c3d0ba72dbd"
_IDENTITY = "8a3d49b8-91f0-46ef-b33d-dda338c25db3"

_BUILDS = (_BUILD, "0cd358e1-9217-4d94-8269-1c1ee6f93dcf", "7.1-preview.7")
_TIMELINE = (_BUILD, "8baac422-4c6e-4de5-8532-db96d92acffa", "7.1-preview.2")
_LOGS = (_BUILD, "35a80daf-7f30-45fc-86e8-6b813d9c90df", "7.1-preview.2")
_DEFINITIONS = (_BUILD, "dbeaf647-6167-421a-bda9-c9327b25e2e6", "7.1-preview.7")
_TAGS = (_BUILD, "6e6114b2-8161-44c8-8f6c-c5505782427f", "7.1-preview.3")
_STAGES = (_BUILD, "b8aac6c9-744b-46e1-88fc-3550969f9313", "7.1-preview.1")
_ENDPOINTS = (_ENDPOINT, "e85f1c62-adfc-4b74-b618-11a150fb195e", "7.1-preview.4")
_PROXY = (_ENDPOINT, "cc63bb57-2a5f-4a7a-b79c-c142d308657e", "7.1-preview.1")
_HISTORY = (_ENDPOINT, "10a16738-9299-4cd1-9a81-fd23ad6200d0", "7.1-preview.1")
_CREATE = (_WORK, "62d3d110-0047-428c-ad3c-4fe872c91c74", "7.1-preview.3")
_ITEMS = (_WORK, "72c7ddf8-2cdc-4f60-90cd-ab71c14a399b", "7.1-preview.3")
_WIQL = (_WORK, "1a9c53f7-f243-4447-b110-35ef023636e4", "7.1-preview.2")
_COMMENTS = (_WORK, "608aac0a-32e1-4493-a863-b9cf4566d257", "7.1-preview.4")
_TYPES = (_WORK, "7c8d7a76-4a09-43e8-b5df-bd792f4ac6aa", "7.1-preview.2")
_STATES = (_WORK, "7c9d7a76-4a09-43e8-b5df-bd792f4ac6aa", "7.1-preview.1")
_CATEGORIES = (_WORK, "9b9f5734-36c8-415e-ba67-f83b45c31408", "7.1-preview.2")
_THREADS = (_GIT, "ab6e2e5d-a0b7-4153-b64a-a4efe0d49449", "7.1-preview.1")
_THREAD_COMMENTS = (_GIT, "965a3ec7-5ed8-455a-bdcb-835a5ea7fe7b", "7.1-preview.1")
_STATUSES = (_GIT, "b5f6bb4f-8d1e-4d79-8d11-4c9172c99c35", "7.1-preview.1")
_RELEASES = (_RELEASE, "a166fde7-27ad-408e-ba75-703c2cc9d500", "7.1-preview.8")
_RELEASE_LOGS = (_RELEASE, "17c91af7-09fd-4256-bff1-c24ee4f73bc0", "7.1-preview.2")
_VARIABLE_GROUPS = (_LIBRARY, "f5b09dd5-9d54-45a1-8b5a-1c8287d634cc", "7.1-preview.2")
_ENVIRONMENTS = (_LIBRARY, "8572b1fc-2482-47fa-8f74-7e3ed53ee54b", "7.1-preview.1")
_KUBERNETES = (_LIBRARY, "73fba52f-15ab-42b3-a538-ce67a9223a04", "7.1-preview.1")
_TASK_GROUPS = (_LIBRARY, "6c08ffbf-dbf1-4f9a-94e5-a1cbd47005e7", "7.1-preview.1")
_USABLE = (_BUILD, "ea623316-1967-45eb-89ab-e9e6110cf2d6", "7.1-preview.1")
_USABLE_BY_ALL = (_BUILD, "398c85bc-81aa-4822-947c-a194a05f0fef", "7.1-preview.1")
_PREVIEW = ("", "53df2d18-29ea-46a9-bee0-933540f80abf", "7.1-preview.1")
_IDENTITIES = (_IDENTITY, "28010c54-d0c0-4c89-a5b0-1c9e188b9fb7", "7.1-preview.1")

_PROJECTS = (
    "79134c72-4a58-4b42-976c-04e7115f32bf",
    "603fe2ac-9723-48b9-88ad-09305aa6c6e1",
    "7.1-preview.4",
)
_PROJECTS_PAGE, _PROJECTS_MAX = 500, 10_000
_IDS_AT_ONCE = 50  # in one address
_RUNS_PAGE, _RUNS_PAGES_MAX = 200, 500

_PATCH = "application/json-patch+json"
_YAML_MAX = 4 * 1024 * 1024
_MINUTE, _DAY = 60.0, 86400.0
# Which project a pipeline is of, in its address; nothing else of that is used.
_OF_PROJECT = re.compile(r"/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})/_apis/")
_HISTORY_DELAY = 60.0  # how late a use may be entered, clocks that differ included


@dataclass(frozen=True)
class Use:
    """One entry of a connection's execution history: which run used it."""

    plan_type: str  # Build, Release
    owner_id: int  # build or release id
    definition_id: int
    result: str
    finished_at: datetime | None  # None while it runs
    started_at: datetime | None = None
    definition_name: str = ""
    project_id: str = ""  # of the pipeline; "" when it does not say


@dataclass(frozen=True)
class VariableGroup:
    """A variable group of the library, as it is now."""

    variables: Mapping[str, str]  # by lower-case name
    modified_at: datetime | None


@dataclass(frozen=True)
class Tested:
    """How a connection's own test of its credential ended."""

    passed: bool
    error: str  # of the service, as it came


@dataclass(frozen=True)
class Thread:
    """A comment thread on a pull request."""

    id: int
    status: str
    properties: Mapping[str, str]
    comments: tuple[tuple[int, str], ...]  # comment id, text


@dataclass(frozen=True)
class WorkItem:
    """A work item as it stands on the server."""

    id: int
    revision: int
    url: str  # its page
    fields: Mapping[str, Any] = field(default_factory=dict)
    relations: tuple[Mapping[str, Any], ...] = ()


def connect(
    url: str,
    credential: str | SignIn,
    *,
    writer: SignIn | None = None,
    extra_hosts: Sequence[str] = (),
    limits: Limits | None = None,
    gate: Gate | None = None,
    memory: Memory | None = None,
) -> Door:
    """Return a door to the organisation at `url`; one per thread. Sends nothing yet.

    `credential` is a token, or what `sign_in.from_settings` returned; all threads share it. With a `writer`
    it only reads. `gate` is shared by all that send with it. Doors with the same `memory` share what is
    slow to change: connections, definitions, people. Raises UsageError when `url` is no organisation's
    address.
    """
    reader = sign_in.with_token(credential) if isinstance(credential, str) else credential
    hosts = frozenset(host.lower() for host in extra_hosts)
    return Door(url, reader, hosts, limits or Limits(), gate or LocalGate(), writer, memory)


@dataclass(frozen=True)
class Account:
    """An organisation and who triage is there; shared by all threads, each with a door of its own."""

    url: str
    reader: SignIn
    writer: SignIn | None = None
    extra_hosts: tuple[str, ...] = ()

    def door(self, *, gate: Gate | None = None, memory: Memory | None = None) -> Door:
        """Return a door; one per thread. `gate` and `memory` are shared by all of this account."""
        return connect(
            self.url,
            self.reader,
            writer=self.writer,
            extra_hosts=self.extra_hosts,
            gate=gate,
            memory=memory,
        )


def account(section: AzureDevOps) -> Account:
    """Return what the settings say of the organisation and of its credentials. Asks nobody yet.

    Raises UsageError when a credential lacks something.
    """
    reader = sign_in.from_settings(section)
    own = section.writer
    writer = sign_in.from_settings(own, "azure_devops.writer") if own.configured else None
    for each in (reader, writer):
        if each and each.is_entra and urls.is_server(section.url):
            raise UsageError(
                f"{each.setting}.auth: Azure DevOps Server knows no Entra identities; use a personal access "
                'token (auth = "token").'
            )
    return Account(section.url, reader, writer, tuple(section.extra_hosts))


class Door:
    """One organisation, seen with one credential, or one to read and one to write."""

    def __init__(
        self,
        url: str,
        reader: SignIn,
        extra_hosts: frozenset[str],
        limits: Limits,
        gate: Gate,
        writer: SignIn | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.organization_url, self.organization = urls.organization(url)
        self.gate = gate
        self._memory = memory or Memory(0)
        self._wire = Wire(self.organization_url, reader, extra_hosts, limits, gate, writer)
        self._types: dict[str, dict[str, frozenset[str]]] = {}
        self._last_release: tuple[str, Any] = "", None

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """Give all requests of the `with` so long together; after that they raise RetryLater."""
        return self._wire.within(seconds)

    # Runs

    def run(self, ref: RunRef) -> Run:
        """Read a run again by its id. Raises Cancel when it is gone."""
        if ref.kind == "release":
            return self._released(ref)
        try:
            body = self._wire.get(*_BUILDS, route={"project": ref.project, "buildId": ref.id})
        except NotThere:
            raise Cancel(
                f"Run {ref.id} of project {ref.project} does not exist (any more), or triage's token "
                "may not see it (Build: read)."
            ) from None
        if shapes.whole(body, "id") != ref.id:
            raise RetryLater(f"Azure DevOps gave another answer than run {ref.id}; trying again.")
        project = shapes.text(shapes.child(body, "project"), "name") or ref.project
        return shapes.run(ref, body, self.run_url(project, ref.id))

    def runs(self, project_id: str, numbers: Sequence[int]) -> tuple[Run, ...]:
        """Return those of these runs that exist, read in one request; at most a hundred."""
        query = {"buildIds": ",".join(map(str, numbers))}
        body = self._wire.get(*_BUILDS, route={"project": project_id}, query=query)
        found = []
        for each in listed(body):
            number = shapes.whole(each, "id")
            if number is not None:
                project = shapes.text(shapes.child(each, "project"), "name") or project_id
                found.append(shapes.run(RunRef(project_id, number), each, self.run_url(project, number)))
        return tuple(found)

    def projects(self) -> tuple[tuple[str, str], ...]:
        """Return the id and name of each project that the token may see."""
        found: list[tuple[str, str]] = []
        for _ in range(_PROJECTS_MAX // _PROJECTS_PAGE):
            query = {"$top": _PROJECTS_PAGE, "$skip": len(found)}
            page = listed(self._wire.get(*_PROJECTS, query=query))
            found += [(shapes.text(each, "id").lower(), shapes.text(each, "name")) for each in page]
            if len(page) < _PROJECTS_PAGE:
                break
        return tuple((number, name) for number, name in found if urls.GUID.match(number))

    def failed_runs(self, project_id: str, since: datetime, until: datetime) -> Iterator[Run]:
        """Yield the runs of a project that failed in a time, the first to end first."""
        for result in ("failed", "partiallySucceeded"):
            query: dict[str, str | int] = {
                "statusFilter": "completed",
                "resultFilter": result,
                "minTime": _wire_time(since),
                "maxTime": _wire_time(until),
                "queryOrder": "finishTimeAscending",
                "$top": _RUNS_PAGE,
            }
            for _ in range(_RUNS_PAGES_MAX):
                body, headers = self._wire.send("GET", *_BUILDS, route={"project": project_id}, query=query)
                for each in listed(body):
                    number = shapes.whole(each, "id")
                    if number is not None:
                        ref = RunRef(project_id, number)
                        yield shapes.run(ref, each, self.run_url(project_id, number))
                token = headers.get("X-MS-ContinuationToken")
                if not token:
                    break
                query = {**query, "continuationToken": token}

    def timeline(self, ref: RunRef, timeline_id: str | None = None) -> tuple[TimelineRecord, ...]:
        """Return the records of a run's last attempt, or of another timeline; none for a run without jobs.

        Of a release: those of its environment, as `run` has just read them.
        """
        if ref.kind == "release":
            return releases.records(self._release(ref), ref)
        route: dict[str, str | int] = {"project": ref.project, "buildId": ref.id}
        if timeline_id:
            route["timelineId"] = timeline_id
        try:
            body = self._wire.get(*_TIMELINE, route=route)
        except NotThere:
            return ()
        return tuple(shapes.record(each) for each in listed(body, "records")) if body is not None else ()

    def log_sizes(self, ref: RunRef) -> dict[int, int]:
        """Return how many lines each log of a run has."""
        body = self._wire.get(*_LOGS, route={"project": ref.project, "buildId": ref.id})
        return {shapes.whole(each, "id") or 0: shapes.whole(each, "lineCount") or 0 for each in listed(body)}

    def log_chunks(self, ref: RunRef, log_id: int, phase_id: int | None = None) -> Iterator[bytes]:
        """Stream a log as plain text. Raises NotThere (a Cancel) when it is gone.

        Of a release: the log of task `log_id` in the deploy phase `phase_id`.
        """
        route: dict[str, str | int] = {"project": ref.project, "buildId": ref.id, "logId": log_id}
        if ref.kind == "release":
            route = {
                "project": ref.project,
                "releaseId": ref.id,
                "environmentId": ref.environment_id or 0,
                "releaseDeployPhaseId": phase_id or 0,
                "taskId": log_id,
            }
            return self._wire.stream(*_RELEASE_LOGS, route=route)
        return self._wire.stream(*_LOGS, route=route)

    def expanded_yaml(self, ref: RunRef) -> str | None:
        """Return the run's YAML with all templates expanded (its first log), None when it has none."""
        kept, size = [], 0
        try:
            for chunk in self.log_chunks(ref, 1):
                kept.append(chunk)
                size += len(chunk)
                if size > _YAML_MAX:
                    return None
        except NotThere:
            return None
        return b"".join(kept).decode("utf-8-sig", "replace") or None

    def definition(self, project_id: str, pipeline_id: int, revision: int | None) -> dict[str, Any]:
        """Return a pipeline's definition as Azure DevOps keeps it, {} when it is gone."""

        def ask() -> dict[str, Any]:
            query = {"revision": revision} if revision is not None else {}
            route: dict[str, str | int] = {"project": project_id, "definitionId": pipeline_id}
            try:
                body = self._wire.get(*_DEFINITIONS, route=route, query=query)
            except NotThere:
                return {}
            if shapes.whole(body, "id") != pipeline_id:
                raise RetryLater(f"Azure DevOps gave another answer than pipeline {pipeline_id}.")
            return dict(body)

        seconds = _MINUTE if revision is None else _DAY  # a revision never changes
        return self._memory.recall(("definition", project_id, pipeline_id, revision), ask, seconds=seconds)

    def add_tag(self, ref: RunRef, tag: str) -> None:
        """Tag a run; doing it twice is doing it once."""
        route: dict[str, str | int] = {"project": ref.project, "buildId": ref.id, "tag": tag}
        body, _ = self._wire.send("PUT", *_TAGS, route=route)
        tags = body.get("value") if isinstance(body, dict) else None
        if not isinstance(tags, list) or tag.lower() not in {str(each).lower() for each in tags}:
            raise RetryLater(f"Azure DevOps does not confirm the tag {tag} on run {ref.id}; trying again.")

    def change_tags(self, ref: RunRef, *, add: str, remove: str) -> None:
        """Put one tag on a run and take another off; doing it twice is doing it once."""
        route: dict[str, str | int] = {"project": ref.project, "buildId": ref.id}
        change = {"tagsToAdd": [add], "tagsToRemove": [remove]}
        self._wire.send("PATCH", *_TAGS, route=route, content=change)

    def retry_stage(self, ref: RunRef, stage: str) -> None:
        """Run the failed jobs of a stage again, and the stages that wait for it."""
        self._wire.send(
            "PATCH",
            *_STAGES,
            route={"project": ref.project, "buildId": ref.id, "stageRefName": stage},
            content={"state": "retry", "forceRetryAllJobs": False},
        )

    def succeeded_runs(self, project_id: str, pipeline_id: int, since: datetime) -> tuple[Run, ...]:
        """Return the newest runs of a pipeline that succeeded since, a page of them."""
        query: dict[str, str | int] = {
            "definitions": pipeline_id,
            "statusFilter": "completed",
            "resultFilter": "succeeded",
            "minTime": _wire_time(since),
            "queryOrder": "finishTimeDescending",
            "$top": 5,
        }
        body = self._wire.get(*_BUILDS, route={"project": project_id}, query=query)
        found = [(shapes.whole(each, "id"), each) for each in listed(body)]
        return tuple(
            shapes.run(RunRef(project_id, number), each, self.run_url(project_id, number))
            for number, each in found
            if number is not None
        )

    # Service connections

    def connections(
        self, project_id: str, *, include_failed: bool = True, remembered: bool = True
    ) -> tuple[Connection, ...]:
        """Return the connections of a project that the token may see; `remembered`: a minute old will do."""

        def ask() -> tuple[Connection, ...]:
            query = {"includeFailed": "true"} if include_failed else {}
            body = self._wire.get(*_ENDPOINTS, route={"project": project_id}, query=query)
            return tuple(self._connection(each, project_id) for each in listed(body))

        if not remembered:
            return ask()
        return self._memory.recall(("connections", project_id, include_failed), ask, seconds=_MINUTE)

    def connections_by_name(self, project_id: str, names: Sequence[str]) -> tuple[Connection, ...]:
        """Return the connections of a project that have one of these names."""
        query = {"endpointNames": ",".join(names), "includeFailed": "true"}
        body = self._wire.get(*_ENDPOINTS, route={"project": project_id}, query=query)
        return tuple(self._connection(each, project_id) for each in listed(body))

    def connection(self, project_id: str, connection_id: str) -> Connection | None:
        """Return one connection, None when the project has none with this id (200 null or 404)."""
        if not urls.GUID.match(connection_id):
            return None
        try:
            body = self._wire.get(*_ENDPOINTS, route={"project": project_id, "endpointId": connection_id})
        except NotThere:
            return None
        if body is None:
            return None
        if shapes.text(body, "id").lower() != connection_id.lower():
            raise RetryLater(
                f"Azure DevOps gave another answer than connection {connection_id}; trying again."
            )
        return self._connection(body, project_id)

    def connections_by_id(self, project_id: str, ids: Sequence[str]) -> tuple[Connection, ...]:
        """Return those connections of a project that have one of these ids, as they are now."""
        known = [each for each in ids if urls.GUID.match(each)]
        found: list[Connection] = []
        for start in range(0, len(known), _IDS_AT_ONCE):
            query = {"endpointIds": ",".join(known[start : start + _IDS_AT_ONCE]), "includeFailed": "true"}
            body = self._wire.get(*_ENDPOINTS, route={"project": project_id}, query=query)
            found += [self._connection(each, project_id) for each in listed(body)]
        return tuple(found)

    def _connection(self, body: Any, project_id: str) -> Connection:
        page = urls.connection_page(self.organization_url, project_id, shapes.text(body, "id") or "unknown")
        return shapes.connection(body, project_id, page)

    def test_connection(self, project_id: str, connection_id: str) -> Tested:
        """Have Azure DevOps sign in with what a connection holds, as its *Verify* does.

        Raises AccessRefused when triage's credential may not use the connection, Cancel when its type has
        no such test.
        """
        body, _ = self._wire.send(
            "POST",
            *_PROXY,
            route={"project": project_id},
            query={"endpointId": connection_id},
            content={"dataSourceDetails": {"dataSourceName": "TestConnection"}},
        )
        # 200 says only that it was tried: the status of what was tried is a name, in some forms a number.
        status = body.get("statusCode") if isinstance(body, dict) else None
        if not isinstance(status, str | int) or isinstance(status, bool):
            raise RetryLater(f"Azure DevOps does not say how the test of connection {connection_id} ended.")
        return Tested(str(status).lower() in {"ok", "200"}, shapes.text(body, "errorMessage"))

    def execution_history(
        self,
        project_id: str,
        connection_id: str,
        *,
        since: datetime | None = None,
        max_age: float = 0.0,
        top: int = 50,
        pages: int = 4,
    ) -> tuple[Use, ...]:
        """Return who used a connection lately, newest first, at most `top` × `pages`.

        What is remembered counts only when it was asked for some time after `since`; without that, when it
        is at most `max_age` seconds old.
        """
        return self._memory.recall(
            ("history", project_id, connection_id, top, pages),
            lambda: self._history(project_id, connection_id, top, pages),
            seconds=10 * _MINUTE if since else max_age,
            not_before=since.timestamp() + _HISTORY_DELAY if since else 0.0,
        )

    def _history(self, project_id: str, connection_id: str, top: int, pages: int) -> tuple[Use, ...]:
        uses: list[Use] = []
        query: dict[str, str | int] = {"top": top}
        for _ in range(pages):
            try:
                body, headers = self._wire.send(
                    "GET", *_HISTORY, route={"project": project_id, "endpointId": connection_id}, query=query
                )
            except NotThere:
                break
            uses += [_use(shapes.child(each, "data")) for each in listed(body)]
            token = headers.get("X-MS-ContinuationToken")
            if not token or not token.isdigit():
                break
            query = {"top": top, "continuationToken": token}
        return tuple(uses)

    def identities(self, identity_ids: Sequence[str]) -> dict[str, Identity]:
        """Return people by id, leaving out who is unknown or no longer active. One call."""
        asked = tuple(sorted({each.lower() for each in identity_ids if urls.GUID.match(each)}))
        if not asked:
            return {}

        def ask() -> dict[str, Identity]:
            try:
                body = self._wire.get(*_IDENTITIES, query={"identityIds": ",".join(asked)})
            except NotThere:
                return {}
            found = [shapes.member(each) for each in listed(body)]
            return {each.id.lower(): each for each in found if each is not None}

        return self._memory.recall(("identities", *asked), ask, seconds=10 * _MINUTE)

    def identity(self, identity_id: str) -> Identity | None:
        """Return a person by id, None when unknown or no longer active."""
        return self.identities([identity_id]).get(identity_id.lower())

    # What a run was made of. A token that may not see a part of it makes triage know less, not fail.

    def release_environment(self, ref: RunRef) -> dict[str, Any]:
        """Return the snapshot of a release's environment, its release's variables included."""
        return releases.environment(self._release(ref), ref)

    def variable_groups(self, project_id: str) -> dict[str, VariableGroup]:
        """Return the variable groups of a project by lower-case name and by id, without secret values."""

        def read(body: Any) -> dict[str, VariableGroup]:
            named: dict[str, VariableGroup] = {}
            for each in listed(body):
                modified = shapes.moment(shapes.text(each, "modifiedOn"))
                group = VariableGroup(shapes.variables(each.get("variables")), modified)
                named[shapes.text(each, "name").lower()] = named[str(each.get("id"))] = group
            return named

        key = ("variable groups", project_id)
        return self._if_shown(key, read, {}, _VARIABLE_GROUPS, {"project": project_id})

    def task_group(self, project_id: str, group_id: str, major: str) -> dict[str, Any]:
        """Return a task group in the version a pipeline asks for, {} when it is gone."""
        if not urls.GUID.match(group_id):
            return {}

        def read(body: Any) -> list[dict[str, Any]]:
            return shapes.items(body, "value") or ([body] if isinstance(body, dict) else [])

        key, nothing = ("task group", project_id, group_id), list[dict[str, Any]]()
        route = {"project": project_id, "taskGroupId": group_id}
        versions = self._if_shown(key, read, nothing, _TASK_GROUPS, route)
        fitting = [v for v in versions if str(shapes.whole(shapes.child(v, "version"), "major")) == major]
        return (fitting or versions or [{}])[-1]

    def environments(self, project_id: str, name: str) -> dict[str, int]:
        """Return the environments whose names hold this one, by lower-case name with their numbers.

        Which of them the token may see: an environment that is missing may all the same be there.
        """

        def read(body: Any) -> dict[str, int]:
            return {shapes.text(e, "name").lower(): shapes.whole(e, "id") or 0 for e in listed(body)}

        key, route = ("environments", project_id, name.lower()), {"project": project_id}
        return self._if_shown(key, read, {}, _ENVIRONMENTS, route, {"name": name})

    def environment_resources(self, project_id: str, environment_id: int) -> dict[str, tuple[int, str]]:
        """Return an environment's resources by lower-case name: number and type (kubernetes, …)."""

        def read(body: Any) -> dict[str, tuple[int, str]]:
            return {
                shapes.text(each, "name").lower(): (shapes.whole(each, "id") or 0, shapes.text(each, "type"))
                for each in shapes.items(body, "resources")
            }

        key = ("environment", project_id, environment_id)
        route: _Route = {"project": project_id, "environmentId": environment_id}
        return self._if_shown(key, read, {}, _ENVIRONMENTS, route, {"expands": "resourceReferences"})

    def kubernetes_connection(self, project_id: str, environment_id: int, resource_id: int) -> str:
        """Return the id of the connection of an environment's Kubernetes resource, "" when hidden."""
        key = ("kubernetes", project_id, environment_id, resource_id)
        route: _Route = {"project": project_id, "environmentId": environment_id, "resourceId": resource_id}
        return self._if_shown(
            key, lambda body: shapes.text(body, "serviceEndpointId").lower(), "", _KUBERNETES, route
        )

    def usable_connections(self, project_id: str, pipeline_id: int) -> frozenset[str]:
        """Return the ids of the connections that a YAML pipeline may use, empty when that is not told.

        Two calls: what the pipeline was permitted, and what every pipeline of the project may use.
        """

        def read(body: Any) -> frozenset[str]:
            return frozenset(
                shapes.text(each, "id").lower()
                for each in listed(body)
                if shapes.text(each, "type").lower() == "endpoint" and each.get("authorized") is not False
            )

        project, query = {"project": project_id}, {"type": "endpoint"}
        nothing: frozenset[str] = frozenset()
        own = self._if_shown(
            ("usable", project_id, pipeline_id),
            read,
            nothing,
            _USABLE,
            {**project, "definitionId": pipeline_id},
            query,
        )
        return own | self._if_shown(("usable", project_id), read, nothing, _USABLE_BY_ALL, project, query)

    def preview_yaml(self, project_id: str, pipeline_id: int, branch: str) -> str:
        """Return a pipeline's YAML as it would be expanded today, "" when it cannot be. Runs nothing."""
        try:
            body, _ = self._wire.send(
                "POST",
                *_PREVIEW,
                route={"project": project_id, "pipelineId": pipeline_id},
                content={
                    "previewRun": True,
                    "resources": {"repositories": {"self": {"refName": branch}}} if branch else {},
                },
            )
        except (Cancel, AccessRefused):
            return ""
        return shapes.text(body, "finalYaml")[:_YAML_MAX]

    def _if_shown(
        self,
        key: tuple[object, ...],
        read: Callable[[Any], _Shown],
        hidden: _Shown,
        location: tuple[str, str, str],
        route: _Route,
        query: Mapping[str, str | int] | None = None,
    ) -> _Shown:
        """Return what is read of an answer, `hidden` where the token may not see it; kept for a minute."""

        def ask() -> _Shown:
            try:
                body = self._wire.get(*location, route=route, query=query)
            except (Cancel, AccessRefused):
                return hidden
            return read(body)

        return self._memory.recall(key, ask, seconds=_MINUTE)

    def _released(self, ref: RunRef) -> Run:
        try:
            body = self._wire.get(
                *_RELEASES, route={"project": ref.project, "releaseId": ref.id}, query={"$expand": "tasks"}
            )
        except NotThere:
            raise Cancel(
                f"Release {ref.id} of project {ref.project} does not exist (any more), or triage's token "
                "may not see it (Release: read)."
            ) from None
        if shapes.whole(body, "id") != ref.id:
            raise RetryLater(f"Azure DevOps gave another answer than release {ref.id}.")
        ref = releases.chosen(body, ref)
        self._last_release = str(ref), body
        project = shapes.text(shapes.child(body, "projectReference"), "name") or ref.project
        return releases.run(ref, body, self.release_url(project, ref))

    def _release(self, ref: RunRef) -> Any:
        """Return the release's answer, read once by `run` and kept for the steps after it."""
        if self._last_release[0] != str(ref):
            self._released(ref)
        return self._last_release[1]

    # Pull requests

    def threads(self, project_id: str, repository_id: str, pull_request: int) -> list[Thread]:
        """Return the threads of a pull request."""
        body = self._wire.get(*_THREADS, route=_pull(project_id, repository_id, pull_request))
        return [_thread(each) for each in listed(body) if each.get("isDeleted") is not True]

    def create_thread(
        self,
        project_id: str,
        repository_id: str,
        pull_request: int,
        content: str,
        *,
        properties: Mapping[str, str],
    ) -> Thread:
        """Open a thread, closed from the start so that it never blocks a pull request."""
        body, _ = self._wire.send(
            "POST",
            *_THREADS,
            route=_pull(project_id, repository_id, pull_request),
            content={
                "comments": [{"parentCommentId": 0, "content": content, "commentType": 1}],
                "status": 4,  # closed
                "properties": {
                    key: {"$type": "System.String", "$value": value} for key, value in properties.items()
                },
            },
        )
        return _thread(body)

    def delete_comment(
        self, project_id: str, repository_id: str, pull_request: int, thread_id: int, comment_id: int
    ) -> None:
        """Delete a comment of ours; a thread without any other is gone with it."""
        route = _comment(project_id, repository_id, pull_request, thread_id, comment_id)
        self._wire.send("DELETE", *_THREAD_COMMENTS, route=route)

    def update_comment(
        self,
        project_id: str,
        repository_id: str,
        pull_request: int,
        thread_id: int,
        comment_id: int,
        content: str,
    ) -> None:
        """Replace the text of a comment of ours."""
        route = _comment(project_id, repository_id, pull_request, thread_id, comment_id)
        body, _ = self._wire.send("PATCH", *_THREAD_COMMENTS, route=route, content={"content": content})
        if shapes.whole(body, "id") != comment_id:
            raise RetryLater(f"Azure DevOps does not confirm comment {comment_id}; trying again.")

    # Work items

    def work_item_types(self, project_id: str) -> dict[str, frozenset[str]]:
        """Return the work item types of a project, each with its fields' reference names."""
        if project_id not in self._types:
            found = listed(self._wire.get(*_TYPES, route={"project": project_id}))
            if not found:
                raise RetryLater(f"Azure DevOps lists no types of work items of {project_id}; trying again.")
            self._types[project_id] = {
                shapes.text(each, "name"): frozenset(
                    shapes.text(f, "referenceName")
                    for f in shapes.items(each, "fields") or shapes.items(each, "fieldInstances")
                )
                for each in found
                if each.get("isDisabled") is not True
            }
        return self._types[project_id]

    def bug_category(self, project_id: str) -> str | None:
        """Return the type that the process uses for bugs, None when it has none (Basic)."""
        try:
            body = self._wire.get(
                *_CATEGORIES, route={"project": project_id, "category": "Microsoft.BugCategory"}
            )
        except Cancel:
            return None
        name = shapes.text(shapes.child(body, "defaultWorkItemType"), "name")
        if not name:  # to go on would file another type
            raise RetryLater("Azure DevOps does not say which type of work item is for bugs; trying again.")
        return name

    def work_item_states(self, project_id: str, type_name: str) -> dict[str, str]:
        """Return the states of a type, each with its category (Proposed, InProgress, Completed, …)."""
        body = self._wire.get(*_STATES, route={"project": project_id, "type": type_name})
        return {shapes.text(e, "name"): shapes.text(e, "category") for e in listed(body)}

    def create_work_item(self, project_id: str, type_name: str, patch: list[dict[str, Any]]) -> WorkItem:
        """Create a work item. Raises FieldRefused when a field's value is not accepted."""
        body, _ = self._wire.send(
            "POST",
            *_CREATE,
            route={"project": project_id, "type": type_name},
            content=patch,
            media_type=_PATCH,
        )
        return self._work_item(project_id, body)

    def update_work_item(self, project_id: str, number: int, patch: list[dict[str, Any]]) -> WorkItem:
        """Change a work item. Raises RevisionConflict when its /rev test fails."""
        body, _ = self._wire.send(
            "PATCH", *_ITEMS, route={"project": project_id, "id": number}, content=patch, media_type=_PATCH
        )
        return self._work_item(project_id, body)

    def work_item(self, project_id: str, number: int) -> WorkItem | None:
        """Return a work item with its relations, None when it is gone."""
        try:
            body = self._wire.get(
                *_ITEMS, route={"project": project_id, "id": number}, query={"$expand": "relations"}
            )
        except NotThere:
            return None
        found = self._work_item(project_id, body)
        if found.id != number or not found.fields:
            raise RetryLater(f"Azure DevOps gave another answer than work item {number}; trying again.")
        return found

    def find_work_items(self, project_id: str, tag: str) -> list[int]:
        """Return the newest twenty work items of a project that carry a tag, the oldest of them first.

        A credential that ends every three months leaves a closed one each time.
        """
        if not tag.replace("-", "").isalnum():
            raise ValueError(f"{tag!r} is no tag of ours")
        query = (
            "SELECT [System.Id] FROM WorkItems WHERE [System.TeamProject] = @project "  # noqa: S608
            f"AND [System.Tags] CONTAINS '{tag}' ORDER BY [System.Id] DESC"
        )
        body, _ = self._wire.send(
            "POST", *_WIQL, route={"project": project_id}, query={"$top": 20}, content={"query": query}
        )
        return sorted(shapes.whole(each, "id") or 0 for each in listed(body, "workItems"))

    def add_comment(self, project_id: str, number: int, text: str, *, markdown: bool) -> None:
        """Comment on a work item; HTML unless `markdown`."""
        self._wire.send(
            "POST",
            *_COMMENTS,
            route={"project": project_id, "workItemId": number},
            query={"format": "markdown"} if markdown else {},
            content={"text": text},
        )

    def comments(self, project_id: str, number: int) -> tuple[str, ...]:
        """Return the newest two hundred comments on a work item, as they are kept: HTML or Markdown."""
        route: dict[str, str | int] = {"project": project_id, "workItemId": number}
        body = self._wire.get(*_COMMENTS, route=route, query={"$top": 200, "order": "desc"})
        return tuple(shapes.text(each, "text") for each in listed(body, "comments"))

    def _work_item(self, project_id: str, body: Any) -> WorkItem:
        number = shapes.whole(body, "id")
        if number is None:
            raise RetryLater("Azure DevOps' answer holds no work item; triage looks whether there is one.")
        fields = shapes.child(body, "fields")
        project = shapes.text(fields, "System.TeamProject") or project_id
        return WorkItem(
            id=number,
            revision=shapes.whole(body, "rev") or 1,
            url=self.work_item_url(project, number),
            fields=fields,
            relations=tuple(shapes.items(body, "relations")),
        )

    # Pages

    def run_url(self, project: str, run_id: int) -> str:
        """Return the page of a run."""
        return urls.run_page(self.organization_url, project, run_id)

    def release_url(self, project: str, ref: RunRef) -> str:
        """Return the page of a release's environment."""
        return urls.release_page(self.organization_url, project, ref.id, ref.environment_id)

    def pipeline_url(self, project: str, pipeline_id: int, kind: Literal["build", "release"]) -> str:
        """Return the page of a pipeline, or of a classic release pipeline."""
        return urls.pipeline_page(self.organization_url, project, pipeline_id, kind)

    def connection_url(self, project: str, connection_id: str) -> str:
        """Return the settings page of a connection."""
        return urls.connection_page(self.organization_url, project, connection_id)

    def work_item_url(self, project: str, number: int) -> str:
        """Return the page of a work item."""
        return urls.work_item_page(self.organization_url, project, number)

    def pull_request_url(self, project: str, repository: str, number: int) -> str:
        """Return the page of a pull request."""
        return urls.pull_request_page(self.organization_url, project, repository, number)

    def parse_run_url(self, url: str) -> RunRef:
        """Return the run whose page has this address; raises UsageError."""
        return urls.parse_run(self.organization_url, url)

    @property
    def wire(self) -> Wire:
        """Return what sends, for triage/azdo/administration.py."""
        return self._wire

    @property
    def host(self) -> str:
        """Return the organisation's host."""
        return urlsplit(self.organization_url).hostname or ""


def _wire_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _pull(project_id: str, repository_id: str, pull_request: int) -> dict[str, str | int]:
    return {"project": project_id, "repositoryId": repository_id, "pullRequestId": pull_request}


def _comment(
    project_id: str, repository_id: str, pull_request: int, thread_id: int, comment_id: int
) -> dict[str, str | int]:
    place = _pull(project_id, repository_id, pull_request)
    return {**place, "threadId": thread_id, "commentId": comment_id}


def _use(data: Any) -> Use:
    definition = shapes.child(data, "definition")
    own = shapes.text(shapes.child(shapes.child(definition, "_links"), "self"), "href")
    return Use(
        plan_type=shapes.text(data, "planType"),
        owner_id=shapes.whole(shapes.child(data, "owner"), "id") or 0,
        definition_id=shapes.whole(definition, "id") or 0,
        result=shapes.text(data, "result"),
        finished_at=shapes.moment(shapes.text(data, "finishTime")),
        started_at=shapes.moment(shapes.text(data, "startTime")),
        definition_name=shapes.text(definition, "name"),
        project_id=found[1].lower() if (found := _OF_PROJECT.search(own)) else "",
    )


def _thread(body: Any) -> Thread:
    if shapes.whole(body, "id") is None:
        raise RetryLater("Azure DevOps' answer holds no thread; triage looks whether there is one.")
    return Thread(
        id=shapes.whole(body, "id") or 0,
        status=shapes.text(body, "status"),
        properties={
            key: value["$value"] if isinstance(value, dict) else value
            for key, value in shapes.child(body, "properties").items()
            if isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("$value"), str))
        },
        comments=tuple(
            (shapes.whole(each, "id") or 0, shapes.text(each, "content"))
            for each in shapes.items(body, "comments")
            if each.get("isDeleted") is not True
        ),
    )
