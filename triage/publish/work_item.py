"""One work item for each incident: filed once, told of further pipelines, never overwritten."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from triage.azdo import FieldRefused, RevisionConflict
from triage.errors import Cancel, RetryLater
from triage.publish import messages
from triage.publish.outcome import Outcome
from triage.publish.safe import visible, words

if TYPE_CHECKING:
    from triage.azdo import Door, WorkItem
    from triage.domain import Finding, Run
    from triage.plan import FileWorkItem, LinkRun, Policy, TellClosed

_REPRO = "Microsoft.VSTS.TCM.ReproSteps"
_DESCRIPTION = "System.Description"
_FORMAT = "multilineFieldsFormat"
_REFUSALS_MAX = 4  # assignee, fallback, area, Markdown
_CONFLICTS_MAX = 3
_STILL_FAILING = "triage-still-failing"  # on an item that has been told so
_CLOSED_AT = (
    "Microsoft.VSTS.Common.ClosedDate",
    "Microsoft.VSTS.Common.StateChangeDate",
    "System.ChangedDate",
)


def file(door: Door, action: FileWorkItem, *, in_doubt: bool, policy: Policy) -> Outcome:
    """Create the incident's work item, or adopt the one that is there.

    When an earlier attempt may have created it, the search index is given time to know.
    """
    finding = action.finding
    project = finding.run.project_id
    if in_doubt:
        time.sleep(policy.settle_seconds)
    found = [door.work_item(project, number) for number in door.find_work_items(project, action.incident_tag)]
    items = [item for item in found if item is not None and not _is_done(door, project, item)]
    if not items:
        return _outcome(_create(door, action, policy), "filed")
    _tell(door, finding, items[0].id)
    others = f" (the same incident: {', '.join(str(each.id) for each in items[1:])})" if items[1:] else ""
    return _outcome(items[0], f"adopted{others}")


def link_run(door: Door, action: LinkRun) -> Outcome:
    """Link another pipeline's run to the work item, with one comment. People's edits stay."""
    return _tell(door, action.finding, action.work_item)


def tell_closed(door: Door, action: TellClosed) -> Outcome:
    """Say once, on a work item that was closed before this run failed, that it goes on."""
    finding, project = action.finding, action.finding.run.project_id
    for _ in range(_CONFLICTS_MAX):
        item = door.work_item(project, action.work_item)
        if item is None:
            return _gone(action.work_item)
        if not _is_done(door, project, item) or _changed_after(item, finding.run):
            return _outcome(item, "needs no word")
        tags = str(item.fields.get("System.Tags") or "")
        if _STILL_FAILING in _split(tags):
            return _outcome(item, "was told already that it goes on")
        patch = [
            {"op": "test", "path": "/rev", "value": item.revision},
            _add("/fields/System.Tags", f"{tags}; {_STILL_FAILING}"),
            _add("/fields/System.History", messages.html(messages.still_failing(finding))),
        ]
        try:
            return _outcome(door.update_work_item(project, item.id, patch), "told that it goes on")
        except RevisionConflict:
            continue
    raise RetryLater(f"Work item {action.work_item} changes faster than triage can write to it.")


def _tell(door: Door, finding: Finding, number: int) -> Outcome:
    """Link a run to a work item and comment on it, once."""
    project, link = finding.run.project_id, _run_link(finding.run)
    for _ in range(_CONFLICTS_MAX):
        item = door.work_item(project, number)
        if item is None:
            return _gone(number)
        if any(str(each.get("url")).lower() == link["url"].lower() for each in item.relations):
            return _outcome(item, "knew the run already")
        patch = [
            {"op": "test", "path": "/rev", "value": item.revision},
            _add("/relations/-", link),
            _add("/fields/System.History", messages.html(messages.another_run(finding))),
        ]
        try:
            return _outcome(door.update_work_item(project, number, patch), "told of another run")
        except RevisionConflict:
            continue  # somebody wrote in between: look again, then write
        except Cancel as refusal:
            if "relationalreadyexists" in str(refusal).replace(" ", "").lower():
                return _outcome(item, "knew the run already")
            raise
    raise RetryLater(f"Work item {number} changes faster than triage can write to it.")


def _create(door: Door, action: FileWorkItem, policy: Policy) -> WorkItem:
    """Create, giving way on each field that is refused: the item is filed in any case."""
    finding = action.finding
    kind, body_field = _type(door, finding.run.project_id, policy)
    assignees = list(dict.fromkeys(a for a in (finding.owner.assignee, policy.default_assignee) if a))
    area = finding.owner.area
    markdown, remark = True, ""
    for _ in range(_REFUSALS_MAX + 1):
        assignee = assignees[0] if assignees else None
        patch = _patch(action, body_field, assignee, area, policy, markdown=markdown, remark=remark)
        try:
            return door.create_work_item(finding.run.project_id, kind, patch)
        except FieldRefused as refusal:
            if refusal.field == "System.AssignedTo" and assignees:
                refused = words(assignees.pop(0))
                left = f"it went to {words(assignees[0])}" if assignees else "nobody is assigned"
                remark = f"Azure DevOps does not accept {refused} as assignee, so {left}. Please pass it on."
            elif refusal.field == "System.AreaPath" and area is not None:
                remark, area = f"{remark} The area {words(area)} does not exist.".strip(), None
            elif refusal.field == _FORMAT and markdown:
                markdown = False
            else:
                raise RetryLater(
                    f"{refusal} Give the field a default in your process, or set policy.work_item_type to a "
                    "type that can do without."
                ) from None
    raise RetryLater("Azure DevOps refused every form of the work item.")


def _type(door: Door, project: str, policy: Policy) -> tuple[str, str]:
    """Return the work item type to file, and its field for long text."""
    types = door.work_item_types(project)
    wanted = (policy.work_item_type, door.bug_category(project), "Issue", "Task")
    kind = next((name for name in wanted if name and name in types), None)
    if kind is None:
        raise RetryLater(
            f"Project {project} has neither bugs, issues nor tasks; set policy.work_item_type to one of "
            f"{', '.join(sorted(types))}."
        )
    return kind, _REPRO if _REPRO in types[kind] else _DESCRIPTION


def _patch(
    action: FileWorkItem,
    body_field: str,
    assignee: str | None,
    area: str | None,
    policy: Policy,
    *,
    markdown: bool,
    remark: str,
) -> list[dict[str, Any]]:
    finding = action.finding
    body = messages.work_item(
        finding, incident_tag=action.incident_tag, incident_page=action.incident_page, remark=remark
    )
    fields = {
        "System.Title": messages.title(finding),
        "System.Tags": f"triage; {policy.tag}; {action.incident_tag}",
        "System.AssignedTo": assignee,
        "System.AreaPath": area,
        body_field: body if markdown else messages.html(body),
    }
    patch = [_add(f"/fields/{name}", value) for name, value in fields.items() if value]
    if markdown:
        patch.append(_add(f"/{_FORMAT}/{body_field}", "Markdown"))
    patch.append(_add("/relations/-", _run_link(finding.run)))
    if finding.connection is not None:
        name = visible(finding.connection.name)
        link = {
            "rel": "Hyperlink",
            "url": finding.connection.url,
            "attributes": {"comment": f"Service connection {name}"},
        }
        patch.append(_add("/relations/-", link))
    return patch


def _add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def _run_link(run: Run) -> dict[str, Any]:
    if run.ref.kind == "release":  # how a release is written as an artifact is nowhere documented
        comment = {"comment": f"Release {visible(run.number)}"}
        return {"rel": "Hyperlink", "url": run.url, "attributes": comment}
    return {
        "rel": "ArtifactLink",
        "url": f"vstfs:///Build/Build/{run.ref.id}",
        "attributes": {"name": "Found in build"},
    }


def _is_done(door: Door, project: str, item: WorkItem) -> bool:
    """Return whether a person has closed it; a process names its states as it likes."""
    states = door.work_item_states(project, str(item.fields.get("System.WorkItemType")))
    return states.get(str(item.fields.get("System.State"))) in {"Completed", "Removed"}


def _changed_after(item: WorkItem, run: Run) -> bool:
    """Return whether the item was closed after the run failed, so that it may well be mended."""
    told = next((str(item.fields[name]) for name in _CLOSED_AT if item.fields.get(name)), "")
    if not told or run.finished_at is None:
        return False
    return datetime.fromisoformat(told) >= run.finished_at


def _split(tags: str) -> set[str]:
    return {tag.strip() for tag in tags.split(";")}


def _gone(number: int) -> Outcome:
    return Outcome(str(number), "", f"work item {number} is gone; nothing to tell")


def _outcome(item: WorkItem, what: str) -> Outcome:
    return Outcome(str(item.id), item.url, f"work item {item.id} {what}")
