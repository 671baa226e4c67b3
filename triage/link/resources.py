"""The connections that a pipeline's resources and containers name, and which of them a step used."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triage.domain import TimelineRecord
    from triage.link.definition import Step

_KINDS = {  # of resource: the key by which its steps call it
    "repositories": "repository",
    "containers": "container",
    "packages": "package",
    "builds": "build",
    "webhooks": "webhook",
}
_NAMING_KEYS = ("endpoint", "connection", "azureSubscription")
_MAX_DEPTH = 12
SELF = "self"  # the pipeline's own repository


@dataclass(frozen=True)
class Resource:
    """Something a pipeline takes from outside, with the connection that it names."""

    kind: str  # repositories, containers, …
    alias: str
    connection: str  # name or GUID
    name: str = ""  # contoso/lib, an image, …

    @property
    def title(self) -> str:
        """Return what a reason calls it: repository 'lib', or the container of a job that has no alias."""
        kind = _KINDS[self.kind]
        return f"{kind} '{self.alias or self.name}'" if self.alias or self.name else kind


def listed(pipeline: dict[str, Any]) -> list[Resource]:
    """Return the resources of an expanded pipeline that name a connection."""
    resources = pipeline.get("resources")
    if not isinstance(resources, dict):
        return []
    return [
        _resource(kind, str(each.get(alias) or ""), each)
        for kind, alias in _KINDS.items()
        for each in resources.get(kind) or []
        if isinstance(each, dict) and _connection(each)
    ]


def of_checkout(
    resources: list[Resource],
    own: Resource | None,
    steps: list[Step],
    record: TimelineRecord,
    own_name: str | None = None,
) -> list[Resource]:
    """Return the repositories that a checkout can be of; none when it is of the own one, which needs none.

    Azure DevOps calls the step `Checkout contoso/lib@main to s/lib` when a job has several.
    """
    known = [*([own] if own else []), *(each for each in resources if each.kind == "repositories")]
    aliases = {step.inputs.get("repository", SELF).lower() for step in steps}
    wanted = [each for each in known if each.alias.lower() in aliases] if aliases else known
    named = [each for each in wanted if each.name and _is_titled(each.name, record)]
    if not named and own is None and own_name and _is_titled(own_name, record):
        return []
    return named or wanted


def _is_titled(name: str, record: TimelineRecord) -> bool:
    """Return True when a step's title has a repository's name, not as a part of another one."""
    return re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w./-])", record.name, re.IGNORECASE) is not None


def of_job(pipeline: dict[str, Any], resources: list[Resource], record: TimelineRecord) -> list[Resource]:
    """Return the containers that a job starts, its services included; of every job when none fits."""
    path = {part.lower() for part in (record.identifier or "").split(".") if part}
    jobs = list(_jobs(pipeline, 0))
    mine = [job for job in jobs if str(job.get("job") or job.get("deployment")).lower() in path]
    known = [each for each in resources if each.kind == "containers"]
    return _started(mine or jobs, known) or known


def of_all_jobs(pipeline: dict[str, Any], resources: list[Resource]) -> list[Resource]:
    """Return every resource of a pipeline, and the containers that its jobs name themselves."""
    return [*resources, *_started(list(_jobs(pipeline, 0)), [])]


def _started(jobs: list[dict[str, Any]], containers: list[Resource]) -> list[Resource]:
    known = {each.alias.lower(): each for each in containers}
    found: list[Resource] = []
    for job in jobs:
        services = job.get("services")
        used = [job.get("container"), *(services.values() if isinstance(services, dict) else [])]
        for each in used:
            if isinstance(each, dict):
                alias = str(each.get("alias") or "").lower()
                found += [known[alias]] if alias in known else []
                found += [_resource("containers", "", each)] if _connection(each) else []
            elif str(each).lower() in known:
                found.append(known[str(each).lower()])
    return found


def of_download(resources: list[Resource], record: TimelineRecord) -> list[Resource]:
    """Return the packages, builds and web hooks whose alias or name the step's own name holds."""
    words = record.name.lower()
    return [
        each
        for each in resources
        if each.kind in {"packages", "builds", "webhooks"}
        and any(text and text.lower() in words for text in (each.alias, each.name))
    ]


def _jobs(node: Any, depth: int) -> Iterator[dict[str, Any]]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(node, list):
        for each in node:
            yield from _jobs(each, depth + 1)
    elif isinstance(node, dict):
        if "job" in node or "deployment" in node or ("steps" in node and "container" in node):
            yield node
            return
        for key in ("stages", "jobs"):
            yield from _jobs(node.get(key), depth + 1)


def _resource(kind: str, alias: str, told: dict[str, Any]) -> Resource:
    name = told.get("name") or told.get("image") or told.get("repository") or ""
    return Resource(kind, alias, _connection(told), str(name) if name != alias else "")


def _connection(told: dict[str, Any]) -> str:
    return next((told[key] for key in _NAMING_KEYS if isinstance(told.get(key), str)), "")
