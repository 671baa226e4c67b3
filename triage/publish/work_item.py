"""One work item for each incident: filed once, told of further pipelines, never overwritten."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from triage.azdo import FieldRefused, RevisionConflict
from triage.errors import Cancel, RetryLater
from triage.plan import RENEWED
from triage.publish import messages
from triage.publish.outcome import Outcome
from triage.safe import visible, words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from triage.acts import (
        EndWorkItem,
        FileNotice,
        FileWorkItem,
        RemindNotice,
        ReopenWorkItem,
        TellChanged,
        TellClosed,
        UpdateWorkItem,
    )
    from triage.azdo import Door, WorkItem
    from triage.domain import Run
    from triage.plan import Policy

_REPRO = "Microsoft.VSTS.TCM.ReproSteps"
_DESCRIPTION = "System.Description"
_FORMAT = "multilineFieldsFormat"
_REFUSALS_MAX = 4  # assignee, fallback, area, Markdown
_CONFLICTS_MAX = 3
_KNEW = "knew the run already"
_BUILD, _RELEASE = "vstfs:///Build/Build/", "Release "  # how links of runs begin: address, and comment
_STILL_FAILING = "triage-still-failing"  # on an item that has been told so
_CLOSED_AT = (
    "Microsoft.VSTS.Common.ClosedDate",
    "Microsoft.VSTS.Common.StateChangeDate",
    "System.ChangedDate",
)

_Change = tuple[list[dict[str, Any]], str]  # a patch, empty for none, and what is said of it


@dataclass(frozen=True)
class _Draft:
    """A work item to be filed."""

    project: str
    title: str
    body: Callable[[str], str]  # Markdown, given a remark of ours on how it is filed
    tags: tuple[str, ...]  # the last finds it again
    assignees: tuple[str, ...] = ()  # the first that Azure DevOps accepts gets it
    area: str | None = None
    relations: tuple[dict[str, Any], ...] = ()


def file(door: Door, action: FileWorkItem, policy: Policy, *, in_doubt: bool) -> Outcome:
    """Create the incident's work item, or adopt the one that is there.

    When an earlier attempt may have created it, the search index is given time to know.
    """
    finding, project = action.finding, action.finding.run.project_id
    there = _open_items(door, project, action.incident_tag, in_doubt=in_doubt, policy=policy)
    if not there:
        return _outcome(_create(door, _draft(door, action, policy), policy), "filed")
    _tell(door, project, there[0].id, (finding.run, *action.pipelines), messages.adopted(finding.run))
    others = f" (the same incident: {', '.join(str(each.id) for each in there[1:])})" if there[1:] else ""
    return _outcome(there[0], f"adopted{others}")


def file_notice(door: Door, action: FileNotice, policy: Policy, *, in_doubt: bool) -> Outcome:
    """Create a work item of triage's own, or return the one that is there."""
    if there := _open_items(door, action.project, action.notice_tag, in_doubt=in_doubt, policy=policy):
        return _outcome(there[0], "is there already")
    ending = messages.marker_line(action.notice_tag)
    draft = _Draft(
        project=action.project,
        title=action.title,
        body=lambda remark: "\n\n".join(part for part in (action.text, remark, ending) if part),
        tags=("triage", *(action.more_tags or (policy.tag,)), action.notice_tag),
        assignees=tuple(dict.fromkeys(each for each in (*action.assignees, policy.default_assignee) if each)),
        area=action.area,
        relations=(_hyperlink(*action.link),) if action.link else (),
    )
    return _outcome(_create(door, draft, policy), "filed")


def remind(door: Door, action: RemindNotice) -> Outcome:
    """Say on a notice that less time is left, unless it was said or somebody has closed it."""

    def change(item: WorkItem) -> _Change:
        tags = _split(str(item.fields.get("System.Tags") or ""))
        if action.tag in tags or _is_done(door, action.project, item):
            return [], "needs no reminder"
        kept = sorted({*tags, action.tag} - {*action.former, ""})
        return [
            {"op": "replace", "path": "/fields/System.Tags", "value": "; ".join(kept)},
            _comment(action.text),
        ], "reminded"

    return _write(door, action.project, action.work_item, change)


def close(door: Door, project: str, number: int, said: str) -> Outcome:
    """Close a work item of ours with a comment, unless somebody has done so. People's edits stay."""
    return _move(door, project, number, said, ("Completed",), None)


def end(door: Door, action: EndWorkItem, policy: Policy) -> Outcome:
    """Say that it works again; close or resolve it where that is the policy. People's edits stay."""
    wanted = {"close": ("Completed",), "resolve": ("Resolved", "Completed"), "comment": ()}
    said = messages.ended(action.proof, policy.work_item_after)
    tags = (policy.tag, RENEWED)
    return _move(door, action.project, action.work_item, said, wanted[policy.work_item_after], tags)


def reopen(door: Door, action: ReopenWorkItem, policy: Policy) -> Outcome:
    """Open an item of ours again; one that a person holds open only hears of it."""
    project, link = action.project, _run_link(action.run)

    def change(item: WorkItem) -> _Change:
        is_over = _category(door, project, item) in {"Completed", "Resolved"}
        was_ended = is_over or RENEWED in _split(str(item.fields.get("System.Tags") or ""))
        if _is_linked(item, link) and not was_ended:
            return [], "knew already that it fails again"
        patch = [
            *([] if _is_linked(item, link) else [_add("/relations/-", link)]),
            _comment(messages.came_back(action.run)),
            _tags(item, add=policy.tag, remove=RENEWED),
        ]
        state = _state_of(door, project, item, ("InProgress", "Proposed"))
        if state and is_over:
            patch.append(_add("/fields/System.State", state))
        return patch, "opened again"

    return _write(door, project, action.work_item, change)


def _move(
    door: Door,
    project: str,
    number: int,
    said: str,
    categories: tuple[str, ...],
    tags: tuple[str, str] | None,
) -> Outcome:
    """Comment on an item and move it to a state of the first category there is, once."""

    def change(item: WorkItem, *, refusal: str = "") -> _Change:
        is_told = tags is not None and tags[1] in _split(str(item.fields.get("System.Tags") or ""))
        if is_told or _is_done(door, project, item):
            return [], "was ended already"
        patch = [_comment(said)]
        if tags is not None:
            patch.append(_tags(item, add=tags[1], remove=tags[0]))
        if refusal:
            return patch, f"told; it could not be closed: {refusal}"
        state = _state_of(door, project, item, categories)
        if state is None:
            return patch, "told"
        return [*patch, _add("/fields/System.State", state)], "ended"

    try:
        return _write(door, project, number, change)
    except (FieldRefused, Cancel) as refused:  # a rule of theirs keeps it open: say so
        if not categories:
            raise
        return _write(door, project, number, partial(change, refusal=str(refused)))


def _state_of(door: Door, project: str, item: WorkItem, categories: tuple[str, ...]) -> str | None:
    """Return a state of the item's type that is of the first of these categories that has one."""
    states = door.work_item_states(project, str(item.fields.get("System.WorkItemType")))
    for category in categories:
        for name, of in states.items():
            if of == category:
                return name
    return None


def _category(door: Door, project: str, item: WorkItem) -> str:
    states = door.work_item_states(project, str(item.fields.get("System.WorkItemType")))
    return states.get(str(item.fields.get("System.State")), "")


def _is_linked(item: WorkItem, link: dict[str, Any]) -> bool:
    return any(str(each.get("url")).lower() == link["url"].lower() for each in item.relations)


def closed_at(door: Door, project: str, number: int) -> datetime | None:
    """Return when somebody closed a work item, None while it is open or when it is gone."""
    item = door.work_item(project, number)
    if item is None or not _is_done(door, project, item):
        return None
    return _closed(item)


def twins(door: Door, project: str, tag: str, number: int) -> list[WorkItem]:
    """Return what else is open of an incident, the oldest first: two that file at once leave two.

    What a person filed under the tag, such as a copy of it, is none.
    """
    numbers = [each for each in door.find_work_items(project, tag) if each != number]
    this = door.work_item(project, number) if numbers else None
    if this is None:
        return []
    found = [door.work_item(project, each) for each in numbers]
    ours = [item for item in found if item is not None and _creator(item) == _creator(this)]
    return [item for item in ours if not _is_done(door, project, item)]


def hand_over(door: Door, project: str, number: int, to: int) -> Outcome:
    """Let a work item know the runs of another, which it stands for from now on."""
    other = door.work_item(project, number)
    runs = [link for each in other.relations if (link := _as_run_link(each))] if other else []

    def change(item: WorkItem) -> _Change:
        new = [_add("/relations/-", link) for link in runs if not _is_linked(item, link)]
        return ([*new, _comment(messages.took_over(number))], "took over") if new else ([], _KNEW)

    return _write(door, project, to, change)


def _open_items(door: Door, project: str, tag: str, *, in_doubt: bool, policy: Policy) -> list[WorkItem]:
    if in_doubt:
        time.sleep(policy.settle_seconds)
    found = [door.work_item(project, number) for number in door.find_work_items(project, tag)]
    return [item for item in found if item is not None and not _is_done(door, project, item)]


def update(door: Door, action: UpdateWorkItem) -> Outcome:
    """Tell the work item of further runs, in one revision. People's edits stay."""
    said = messages.further_runs(action.runs, action.more, action.count, action.incident_page)
    return _tell(door, action.project, action.work_item, action.runs, said)


def tell_closed(door: Door, action: TellClosed) -> Outcome:
    """Say once, on a work item that was closed before this run failed, that it goes on."""

    def change(item: WorkItem) -> _Change:
        if not _is_done(door, action.project, item) or _changed_after(item, action.run):
            return [], "needs no word"
        tags = str(item.fields.get("System.Tags") or "")
        if _STILL_FAILING in _split(tags):
            return [], "was told already that it goes on"
        return [
            _add("/fields/System.Tags", f"{tags}; {_STILL_FAILING}"),
            _comment(messages.still_failing(action.run)),
        ], "told that it goes on"

    return _write(door, action.project, action.work_item, change)


def tell_changed(door: Door, action: TellChanged, policy: Policy, *, in_doubt: bool) -> Outcome:
    """Say that the connection was changed, unless the item is closed.

    When an earlier attempt may have said so, the comments are looked through for it.
    """
    project, number = action.project, action.work_item
    if number is None:
        return Outcome("", "", "no work item is about this connection alone")
    told = messages.changed(action, policy.work_item_after)

    def change(item: WorkItem) -> _Change:
        if _is_done(door, project, item):
            return [], "is closed already"
        if in_doubt and any(
            messages.to_the_second(action.changed_at) in c for c in door.comments(project, number)
        ):
            return [], "knew of the change already"
        return [_comment(told)], "told of a change"

    return _write(door, project, number, change)


def _tell(door: Door, project: str, number: int, runs: tuple[Run, ...], said: str) -> Outcome:
    """Link runs to a work item and comment on it, once: the links tell whether it was done."""
    links = {link["url"].lower(): link for link in map(_run_link, runs)}

    def change(item: WorkItem) -> _Change:
        there = {str(each.get("url")).lower() for each in item.relations}
        if links.keys() <= there:
            return [], _KNEW
        new = [_add("/relations/-", link) for url, link in links.items() if url not in there]
        return [*new, _comment(said)], "told of further runs"

    try:
        return _write(door, project, number, change)
    except Cancel as refusal:
        if "relationalreadyexists" not in str(refusal).replace(" ", "").lower():
            raise
        item = door.work_item(project, number)
        return _outcome(item, _KNEW) if item else _gone(number)


def _write(door: Door, project: str, number: int, change: Callable[[WorkItem], _Change]) -> Outcome:
    """Change an item from what it is now, once more whenever somebody wrote in between.

    An empty patch is not written; what is said of it is the outcome all the same.
    """
    for _ in range(_CONFLICTS_MAX):
        item = door.work_item(project, number)
        if item is None:
            return _gone(number)
        patch, said = change(item)
        if not patch:
            return _outcome(item, said)
        patch = [{"op": "test", "path": "/rev", "value": item.revision}, *patch]
        try:
            return _outcome(door.update_work_item(project, number, patch), said)
        except RevisionConflict:
            continue  # look again, then write
    raise RetryLater(f"Work item {number} changes faster than triage can write to it.")


def _create(door: Door, draft: _Draft, policy: Policy) -> WorkItem:
    """Create, giving way on each field that is refused: the item is filed in any case."""
    kind, body_field = _type(door, draft.project, policy)
    assignees, area = list(draft.assignees), draft.area
    refused: list[str] = []
    markdown, no_area = True, ""
    for _ in range(_REFUSALS_MAX + 1):
        body = draft.body(f"{_unassigned(refused, assignees)} {no_area}".strip())
        fields = {
            "System.Title": draft.title,
            "System.Tags": "; ".join(draft.tags),
            "System.AssignedTo": assignees[0] if assignees else None,
            "System.AreaPath": area,
            body_field: body if markdown else messages.html(body),
        }
        patch = [_add(f"/fields/{name}", value) for name, value in fields.items() if value]
        if markdown:
            patch.append(_add(f"/{_FORMAT}/{body_field}", "Markdown"))
        patch += [_add("/relations/-", relation) for relation in draft.relations]
        try:
            return door.create_work_item(draft.project, kind, patch)
        except FieldRefused as refusal:
            if refusal.field == "System.AssignedTo" and assignees:
                refused.append(assignees.pop(0))
            elif refusal.field == "System.AreaPath" and area is not None:
                no_area, area = f"The area {words(area)} does not exist, so it is in the project's own.", None
            elif refusal.field == _FORMAT and markdown:
                markdown = False
            else:
                raise RetryLater(
                    f"{refusal} Give the field a default in your process, or set policy.work_item_type to a "
                    "type that can do without."
                ) from None
    raise RetryLater("Azure DevOps refused every form of the work item.")


def _unassigned(refused: list[str], left: list[str]) -> str:
    """Return what a work item says of the assignees that Azure DevOps did not accept."""
    if not refused:
        return ""
    whom = " nor ".join(words(each) for each in refused)
    given = (
        f"it went to {words(left[0])}. Please pass it on."
        if left
        else "nobody is assigned. Please assign it."
    )
    return f"Azure DevOps does not accept {whom} as assignee, so {given}"


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


def _draft(door: Door, action: FileWorkItem, policy: Policy) -> _Draft:
    finding = action.finding
    assignees = dict.fromkeys(a for a in (finding.owner.assignee, policy.default_assignee) if a)
    runs = {run.ref: run for run in (finding.run, *action.pipelines)}
    relations = [_run_link(run) for run in runs.values()]
    if finding.connection is not None:
        name = visible(finding.connection.name)
        relations.append(_hyperlink(finding.connection.url, f"Service connection {name}"))
    return _Draft(
        project=finding.run.project_id,
        title=action.title,
        body=lambda remark: messages.work_item(
            finding,
            incident_tag=action.incident_tag,
            incident_page=action.incident_page,
            remark=remark,
            pipelines=action.pipelines,
            count=action.count,
            earlier=[
                (each, _page(door, finding.run.project_name, each.work_item)) for each in action.earlier
            ],
            digest=(action.digest, _page(door, finding.run.project_name, action.digest)),
            after=policy.work_item_after,
        ),
        tags=("triage", policy.tag, action.incident_tag),
        assignees=tuple(assignees),
        area=finding.owner.area,
        relations=tuple(relations),
    )


def _page(door: Door, project: str, number: int | None) -> str:
    return door.work_item_url(project, number) if number else ""


def _add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def _comment(text: str) -> dict[str, Any]:
    return _add("/fields/System.History", messages.html(text))


def _hyperlink(url: str, title: str) -> dict[str, Any]:
    return {"rel": "Hyperlink", "url": url, "attributes": {"comment": title}}


def _run_link(run: Run) -> dict[str, Any]:
    if run.ref.kind == "release":  # how a release is written as an artifact is nowhere documented
        comment = {"comment": f"{_RELEASE}{visible(run.number)}"}
        return {"rel": "Hyperlink", "url": run.url, "attributes": comment}
    return {
        "rel": "ArtifactLink",
        "url": f"{_BUILD}{run.ref.id}",
        "attributes": {"name": "Found in build"},
    }


def _as_run_link(relation: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a relation as it was made when it is the link of a run, without what the server adds."""
    kind, url, told = relation.get("rel"), str(relation.get("url")), relation.get("attributes") or {}
    attributes = {key: told[key] for key in ("name", "comment") if key in told}
    is_build = kind == "ArtifactLink" and url.startswith(_BUILD)
    is_release = kind == "Hyperlink" and str(told.get("comment")).startswith(_RELEASE)
    return {"rel": kind, "url": url, "attributes": attributes} if is_build or is_release else None


def _is_done(door: Door, project: str, item: WorkItem) -> bool:
    """Return whether a person has closed it; a process names its states as it likes."""
    return _category(door, project, item) in {"Completed", "Removed"}


def _changed_after(item: WorkItem, run: Run) -> bool:
    """Return whether the item was closed after the run failed, so that it may well be mended."""
    closed = _closed(item)
    return closed is not None and run.finished_at is not None and closed >= run.finished_at


def _creator(item: WorkItem) -> str:
    who = item.fields.get("System.CreatedBy")
    return str(who.get("id") or "") if isinstance(who, dict) else ""


def _closed(item: WorkItem) -> datetime | None:
    told = next((str(item.fields[name]) for name in _CLOSED_AT if item.fields.get(name)), "")
    return datetime.fromisoformat(told) if told else None


def _split(tags: str) -> set[str]:
    return {tag.strip() for tag in tags.split(";")}


def _tags(item: WorkItem, *, add: str, remove: str) -> dict[str, Any]:
    tags = {*_split(str(item.fields.get("System.Tags") or "")), add} - {remove, ""}
    # "add" would only add to what is there.
    return {"op": "replace", "path": "/fields/System.Tags", "value": "; ".join(sorted(tags))}


def _gone(number: int) -> Outcome:
    return Outcome(str(number), "", f"work item {number} is gone; nothing to tell")


def _outcome(item: WorkItem, what: str) -> Outcome:
    return Outcome(str(item.id), item.url, f"work item {item.id} {what}")
