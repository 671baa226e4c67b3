"""One thread for each pull request and incident, found again by its marker."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from triage.errors import AccessRefused, Cancel
from triage.publish import messages
from triage.publish.outcome import Outcome

if TYPE_CHECKING:
    from triage.acts import EndThread, PostThread
    from triage.azdo import Door, Thread

_PROPERTY = "triage.key"


def post(door: Door, action: PostThread) -> Outcome:
    """Open the thread, or bring ours up to date with this run. People's words stay."""
    run = action.finding.run
    assert run.repository_id is not None  # noqa: S101 - plan posts nothing without
    assert run.pull_request is not None  # noqa: S101
    page = door.pull_request_url(run.project_name, run.repository_id, run.pull_request)
    item = door.work_item_url(run.project_name, action.work_item) if action.work_item else None
    content = messages.thread(
        action.finding, work_item_url=item, work_item=action.work_item, marker=action.incident_tag
    )
    where = (run.project_id, run.repository_id, run.pull_request)
    threads = door.threads(*where)
    known = _find(threads, action.incident_tag)
    if is_new := known is None:
        made = door.create_thread(*where, content, properties={_PROPERTY: action.incident_tag})
        threads = door.threads(*where)  # another deployment of triage may have opened one at the same moment
        known = _find(threads, action.incident_tag) or made
    _delete_doubles(door, where, known, threads, action.incident_tag)
    if is_new:
        return Outcome(str(known.id), page, f"thread on pull request {run.pull_request}")
    if not _is_ours(known, action.incident_tag):
        return Outcome(str(known.id), page, f"a person removed our words from thread {known.id}; left alone")
    comment, text = known.comments[0]
    if text.strip() != content.strip():
        door.update_comment(*where, known.id, comment, content)
    return Outcome(str(known.id), page, f"thread on pull request {run.pull_request} brought up to date")


def end(door: Door, action: EndThread) -> Outcome:
    """Say in our thread that the credential works again; where it is gone, say nothing."""
    run = action.finding.run
    assert run.repository_id is not None  # noqa: S101 - plan ends no thread without
    assert run.pull_request is not None  # noqa: S101
    page = door.pull_request_url(run.project_name, run.repository_id, run.pull_request)
    where = (run.project_id, run.repository_id, run.pull_request)
    content = messages.thread_end(action.finding, marker=action.incident_tag)
    known = _find(door.threads(*where), action.incident_tag)
    if known is None or not _is_ours(known, action.incident_tag):
        return Outcome("", page, "there is no thread of ours any more")
    comment, text = known.comments[0]
    if text.strip() != content.strip():
        door.update_comment(*where, known.id, comment, content)
    return Outcome(str(known.id), page, f"told pull request {run.pull_request} that it works again")


def _find(threads: list[Thread], marker: str) -> Thread | None:
    """Return our thread: by its property, else by the marker at the end of its first comment."""
    for thread in sorted(threads, key=lambda each: each.id):
        if thread.properties.get(_PROPERTY) == marker or _is_ours(thread, marker):
            return thread
    return None


def _delete_doubles(
    door: Door, where: tuple[str, str, int], known: Thread, threads: list[Thread], marker: str
) -> None:
    """Delete what triage opened a second time, unless somebody has answered there."""
    for double in threads:
        is_marked = double.id > known.id and double.properties.get(_PROPERTY) == marker
        if is_marked and len(double.comments) == 1 and _is_ours(double, marker):
            with suppress(AccessRefused, Cancel):  # then it says the same twice
                door.delete_comment(*where, double.id, double.comments[0][0])


def _is_ours(thread: Thread, marker: str) -> bool:
    """Return whether the first comment is still the one that triage wrote."""
    return bool(thread.comments) and thread.comments[0][1].rstrip().endswith(messages.marker_line(marker))
