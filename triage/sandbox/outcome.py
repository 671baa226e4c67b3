"""What really happened in a story: told by the played organisation first, by triage second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triage.sandbox.processes import STATES

if TYPE_CHECKING:
    from collections.abc import Callable

    from triage.sandbox.organisation import Organisation, Project
    from triage.sandbox.stories import Story

_COMPARED = {
    "rule": "the rule",
    "credential": "the credential",
    "verdict": "the verdict",
    "connection": "the service connection",
    "link": "how the connection is known",
    "owner": "the assignee of the work item",
    "recipe": "the renewal recipe",
    "work_item": "the work item's type",
    "work_items": "the states of the work items",
    "incident": "the incident",
    "runs": "the number of runs in the incident",
    "thread": "a thread on the pull request",
    "tag": "a tag on the failed runs",
    "run_tag": "the tag of the failed runs",
}
_ALWAYS = {"work_item", "runs", "thread", "tag"}  # said or not: what is not expected must not happen
_VERDICTS = ["expired", "revoked", "rejected", "missing", "misconfigured", "look-alike"]


def happened(story: Story, organisation: Organisation, view: Callable[[str], Any]) -> dict[str, Any]:
    """Return what came of a story: the same names as its expectation, and where to look.

    `view` returns triage's own JSON for a path such as /api/incidents, None when there is none.
    """
    with organisation.lock:
        project = organisation.projects[story.project_id]
        told = _in_organisation(project, organisation.url)
        numbers = sorted([*project.builds, *project.releases])
    findings = [each for number in numbers for each in _findings(view, story.project_id, number)]
    best = min(findings, key=_rank, default={})
    last = max((each.get("incident_id") or 0 for each in findings), default=0)
    incident = (view(f"/api/incidents/{last}") if last else None) or {}
    return {
        "rule": best.get("rule"),
        "credential": best.get("credential"),
        "verdict": best.get("verdict"),
        "connection": incident.get("connection_name"),
        "link": best.get("link_method"),
        "owner": told["assignees"][0] if told["assignees"] else best.get("owner"),
        "owner_method": best.get("owner_method"),
        "owner_reason": best.get("owner_reason"),
        "recipe": best.get("recipe"),
        "work_item": ", ".join(dict.fromkeys(told["types"])) or None,
        "work_items": [each["category"] for each in told["items"]],
        "incident": _stands(incident),
        "closed_reason": incident.get("closed_reason"),
        "runs": int(incident.get("runs") or 0),
        "thread": bool(told["threads"]),
        "tag": bool(told["tagged"]) and told["tagged"] == told["failed"],
        "run_tag": ", ".join(told["tags"]) or None,
        "evidence": best.get("excerpt"),
        "line": best.get("line"),
        "items": told["items"],
        "pull_requests": told["pull_requests"],
        "run_pages": told["pages"],
        "thread_states": told["thread_states"],
        "unseen": [page for number, page in told["failed_pages"].items() if not _seen(view, story, number)],
    }


def check(story: Story, organisation: Organisation, view: Callable[[str], Any]) -> list[str]:
    """Return how a story ended otherwise than expected, in plain sentences; nothing when all is well."""
    found, wanted = happened(story, organisation, view), story.scenario.expected
    differences = [
        f"Expected {noun} to be {_word(expected)}, but it is {_word(found[key])}."
        for key, noun in _COMPARED.items()
        if ((expected := getattr(wanted, key)) is not None or key in _ALWAYS)
        and key not in wanted.either
        and found[key] != expected
    ]
    differences += [f"triage has come to no conclusion about {page}." for page in found["unseen"]]
    if len(found["items"]) > 1 and wanted.work_items is None:
        differences.append(f"Expected one work item at most, but there are {len(found['items'])}.")
    if wanted.log_text and wanted.log_text not in (found["evidence"] or ""):
        differences.append(
            f"Expected the evidence to hold {wanted.log_text!r}, but it is {found['evidence']!r}."
        )
    if any(state != "closed" for state in found["thread_states"]):
        differences.append(
            f"Expected every thread to be closed, but they are {', '.join(found['thread_states'])}."
        )
    with organisation.lock:
        said = _texts(organisation.projects[story.project_id])
    differences += [
        f"A work item, a comment or a thread must say {text!r}, but none does."
        for text in (story.fill(each, organisation) for each in wanted.said)
        if text not in said
    ]
    never = [story.fill(text, organisation) for text in wanted.never]
    differences += [
        f"No work item or thread may say {text!r}, but one does." for text in never if text in said
    ]
    return differences


def _in_organisation(project: Project, base_url: str) -> dict[str, Any]:
    items = sorted(project.work_items.items())
    threads = [
        (key, thread)
        for key, kept in sorted(project.threads.items())
        for thread in kept
        if not thread.get("isDeleted")
    ]
    home = f"{base_url}/{project.name}"
    return {
        "types": [item["fields"]["System.WorkItemType"] for _, item in items],
        "assignees": [
            person.get("uniqueName") if isinstance(person, dict) else person
            for _, item in items
            if (person := item["fields"].get("System.AssignedTo"))
        ],
        "items": [_item(project, number, item["fields"], home) for number, item in items],
        "threads": [thread["id"] for _, thread in threads],
        "thread_states": [str(thread["status"]) for _, thread in threads],
        "pull_requests": sorted({f"{home}/_git/{project.name}/pullrequest/{key[1]}" for key, _ in threads}),
        "tagged": {number for number, tags in project.build_tags.items() if tags},
        "tags": sorted({tag for tags in project.build_tags.values() for tag in tags}),
        "failed": {
            n for n, build in project.builds.items() if build["result"] in {"failed", "partiallySucceeded"}
        },
        "failed_pages": {
            n: f"{home}/_build/results?buildId={n}" for n, b in project.builds.items() if _failed(b)
        }
        | {
            n: f"{home}/_releaseProgress?releaseId={n}"
            for n, made in project.releases.items()
            if any(each["status"] == "rejected" for each in made["environments"])
        },
        "pages": [f"{home}/_build/results?buildId={number}" for number in sorted(project.builds)],
    }


def _item(project: Project, number: int, fields: dict[str, Any], home: str) -> dict[str, Any]:
    state = str(fields.get("System.State"))
    return {
        "id": number,
        "title": fields.get("System.Title"),
        "url": f"{home}/_workitems/edit/{number}",
        "state": state,
        "category": STATES[project.process][fields["System.WorkItemType"]].get(state),
        "comments": [str(each["text"]) for each in project.comments.get(number, [])],
    }


def _stands(incident: dict[str, Any]) -> str | None:
    if not incident:
        return None
    again = incident["state"] == "open" and incident["reopened_at"]
    return "open again" if again else str(incident["state"])


def _failed(build: dict[str, Any]) -> bool:
    return build["result"] in {"failed", "partiallySucceeded"}


def _seen(view: Callable[[str], Any], story: Story, number: int) -> bool:
    """Return True when triage has concluded something: doing nothing must not come of seeing nothing."""
    return view(f"/api/runs/{story.project_id}/{number}") is not None


def _findings(view: Callable[[str], Any], project: str, number: int) -> list[dict[str, Any]]:
    run = view(f"/api/runs/{project}/{number}") or {}
    found: list[dict[str, Any]] = run.get("findings") or []
    return found


def _rank(finding: dict[str, Any]) -> int:
    verdict = finding.get("verdict")
    return _VERDICTS.index(verdict) if verdict in _VERDICTS else len(_VERDICTS)


def _texts(project: Project) -> str:
    """Return everything that was written for people in a project."""
    fields = [str(value) for item in project.work_items.values() for value in item["fields"].values()]
    comments = [str(each.get("text")) for kept in project.comments.values() for each in kept]
    threads = [
        str(c["content"]) for kept in project.threads.values() for thread in kept for c in thread["comments"]
    ]
    return "\n".join(fields + comments + threads)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "there" if value else "absent"
    return "nothing" if value is None else repr(value)
