"""Service hook events of a finished run, as Azure DevOps renders them when it delivers."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from triage.sandbox.organisation import wire_time

if TYPE_CHECKING:
    from triage.sandbox.organisation import Project

_RESULTS = {"partiallySucceeded": "succeeded"}  # the pipelines API has no third result


def render(kind: str, build: dict[str, Any], base_url: str, project: Project) -> dict[str, Any]:
    """Return the event of this kind about a finished build.

    `kind` is build.complete, run-state-changed or stage-state-changed.
    """
    page, project_id = build["_links"]["web"]["href"], build["project"]["id"]
    if kind == "build.complete":
        text = f"Build {build['buildNumber']} {build['result']}"
        return _envelope("tfs", kind, "2.0", text, build, base_url, page, project_id)
    resource = _run(build, project)
    if kind == "stage-state-changed":
        resource |= _stage(build, project)
    return _envelope(
        "pipelines",
        f"ms.vss-pipelines.{kind}-event",
        "5.1-preview.1",
        f"Run {build['buildNumber']} {build['result']}.",
        resource,
        base_url,
        page,
        project_id,
    )


def endpoint_updated(endpoint: dict[str, Any], base_url: str, project: Project) -> dict[str, Any]:
    """Return the event of a connection that was changed. The service's own form is not documented."""
    page = f"{base_url}/{project.name}/_settings/adminservices?resourceId={endpoint['id']}"
    text = f"Service connection {endpoint['name']} was updated"
    kind = "ms.vss-endpoint.endpoint-updated"
    return _envelope("tfs", kind, "1.0", text, endpoint, base_url, page, project.id)


def _envelope(
    publisher: str,
    kind: str,
    version: str,
    text: str,
    resource: dict[str, Any],
    base_url: str,
    page: str,
    project_id: str,
) -> dict[str, Any]:
    message = {
        "text": text,
        "html": f'<a href="{page}">{text}</a>',
        "markdown": f"[{text}]({page})",
    }
    home = f"{base_url}/"
    account = str(uuid.uuid5(uuid.NAMESPACE_URL, home))
    return {
        "id": str(uuid.uuid4()),
        "eventType": kind,
        "publisherId": publisher,
        "message": message,
        "detailedMessage": message,
        "resource": resource,
        "resourceVersion": version,
        "resourceContainers": {
            "collection": {"id": account, "baseUrl": home},
            "account": {"id": account, "baseUrl": home},
            "project": {"id": project_id, "baseUrl": home},
        },
        "createdDate": wire_time(),
    }


def _run(build: dict[str, Any], project: Project) -> dict[str, Any]:
    definition = build["definition"]
    pipeline = {
        "url": f"{build['url'].split('/_apis/')[0]}/_apis/Pipelines/{definition['id']}?revision=1",
        "id": definition["id"],
        "revision": definition["revision"],
        "name": definition["name"],
        "folder": "\\",
    }
    return {
        "run": {
            "_links": {"web": build["_links"]["web"]},
            "pipeline": pipeline,
            "state": "completed",
            "result": _RESULTS.get(build["result"], build["result"]),
            "createdDate": build["queueTime"],
            "finishedDate": build["finishTime"],
            "url": f"{pipeline['url'].split('?')[0]}/runs/{build['id']}",
            "id": build["id"],
            "name": build["buildNumber"],
        },
        "pipeline": pipeline,
        "repositories": [
            {"type": "Git", "change": {"message": "Small steps"}, "url": build["repository"]["url"]}
        ],
        "projectId": project.id,
        "runId": build["id"],
        "requestedFor": build["requestedFor"],
        "requestedBy": build["requestedBy"],
    }


def _stage(build: dict[str, Any], project: Project) -> dict[str, Any]:
    """Return the part about the stage that failed last, or ended last."""
    records = project.timelines[build["id"]][project.current_timeline[build["id"]]]["records"]
    stages = [record for record in records if record["type"] == "Stage" and record["result"] != "skipped"]
    ended = next((stage for stage in reversed(stages) if stage["result"] == "failed"), stages[-1])
    return {
        "stage": {
            "_links": {"web": build["_links"]["web"]},
            "id": ended["id"],
            "name": ended["refName"],
            "displayName": ended["name"],
            "attempt": ended["attempt"],
            "state": "completed",
            "result": ended["result"],
        },
        "stageName": ended["refName"],
    }
