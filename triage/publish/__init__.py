"""8 act: carry out one action on Azure DevOps, safely when it may have been done already."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from triage.plan import FileNotice, FileWorkItem, PostThread, TagRun, TellClosed, UpdateWorkItem
from triage.publish import pull_request, work_item
from triage.publish.messages import title
from triage.publish.outcome import Outcome

if TYPE_CHECKING:
    from triage.azdo import Door
    from triage.plan import Action, Policy

__all__ = ["Outcome", "carry_out", "describe", "title"]

_ACT_SECONDS = 120.0  # with the longest settling, less than the lease of an effect (effects.py)


def carry_out(door: Door, action: Action, *, attempts: int, policy: Policy) -> Outcome:
    """Do it. `attempts` above 1 means that an earlier attempt may have done it, its reply lost."""
    with door.within(_ACT_SECONDS + policy.settle_seconds):
        return _carry_out(door, action, attempts=attempts, policy=policy)


def _carry_out(door: Door, action: Action, *, attempts: int, policy: Policy) -> Outcome:
    match action:
        case TagRun(run=run, tag=tag):
            door.add_tag(run.ref, tag)
            return Outcome(tag, run.url, f"tagged {tag}")
        case FileWorkItem():
            return work_item.file(door, action, in_doubt=attempts > 1, policy=policy)
        case FileNotice():
            return work_item.file_notice(door, action, in_doubt=attempts > 1, policy=policy)
        case UpdateWorkItem():
            return work_item.update(door, action)
        case TellClosed():
            return work_item.tell_closed(door, action)
        case PostThread():
            return pull_request.post(door, action)
        case _:
            assert_never(action)


def describe(action: Action) -> str:
    """Return what an action would do, in one line."""
    match action:
        case TagRun(tag=tag):
            return f"tag the run {tag}"
        case FileWorkItem(finding=finding):
            who = finding.owner.assignee or finding.owner.team or "nobody"
            return f"file one work item in {finding.run.project_name}, assigned to {who}: {title(finding)}"
        case FileNotice(title=said):
            return f"file one work item of triage's own: {said}"
        case UpdateWorkItem(work_item=number):
            return f"tell work item {number} of further runs"
        case TellClosed(work_item=number):
            return f"say on work item {number} that it goes on, if somebody has closed it"
        case PostThread(finding=finding):
            return f"leave one thread on pull request {finding.run.pull_request}"
        case _:
            assert_never(action)
