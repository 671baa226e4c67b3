"""8 act: carry out one act on Azure DevOps, safely when it may have been done already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triage import acts
from triage.errors import AccessRefused, Cancel, RetryLater
from triage.plan import RENEWED
from triage.publish import pull_request, work_item
from triage.publish.messages import title
from triage.publish.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from triage.azdo import Door
    from triage.plan import Policy

__all__ = ["Outcome", "carry_out", "title"]

_ACT_SECONDS = 120.0  # with the longest settling, less than the lease of an effect (effects.py)
_THREAD_TRIES = 16  # with the backoff of its job: within a day


def carry_out(door: Door, act: acts.Act, *, attempts: int, policy: Policy) -> Outcome:
    """Do it. `attempts` above 1 means that an earlier attempt may have done it, its reply lost."""
    with door.within(_ACT_SECONDS + policy.settle_seconds):
        return _carry_out(door, act, attempts, policy)


def _carry_out(door: Door, act: acts.Act, attempts: int, policy: Policy) -> Outcome:  # noqa: PLR0911 - one for each
    in_doubt = attempts > 1
    match act:
        case acts.FileWorkItem():
            return work_item.file(door, act, policy, in_doubt=in_doubt)
        case acts.FileNotice():
            return work_item.file_notice(door, act, policy, in_doubt=in_doubt)
        case acts.EndWorkItem():
            return work_item.end(door, act, policy)
        case acts.ReopenWorkItem():
            return work_item.reopen(door, act, policy)
        case acts.TellChanged():
            return work_item.tell_changed(door, act, policy, in_doubt=in_doubt)
        case acts.PostThread() | acts.EndThread():
            return _tell_pull_request(door, act, attempts)
        case _:
            return _BY_KIND[type(act)](door, act)


def _tell_pull_request(door: Door, act: acts.PostThread | acts.EndThread, attempts: int) -> Outcome:
    """Write to a pull request. The run and its work item stand without, so a refusal that lasts is told.

    A token without the right is refused just as one that has expired: only time tells them apart.
    """
    try:
        if isinstance(act, acts.PostThread):
            return pull_request.post(door, act)
        return pull_request.end(door, act)
    except (Cancel, AccessRefused) as refusal:
        if attempts < _THREAD_TRIES:
            raise RetryLater(str(refusal)) from refusal
        number, why = act.finding.run.pull_request, str(refusal).rstrip(".")
        return Outcome("", "", f"pull request {number} could not be told: {why}")


def _tag(door: Door, act: acts.TagRun) -> Outcome:
    try:
        if act.since:
            door.change_tags(act.run.ref, add=act.tag, remove=RENEWED)
        else:
            door.add_tag(act.run.ref, act.tag)
    except Cancel as gone:  # kept too short by retention: the rest stands without
        return Outcome("", act.run.url, f"not tagged: {gone}")
    return Outcome(act.tag, act.run.url, f"tagged {act.tag}")


def _mark_renewed(door: Door, act: acts.MarkRenewed) -> Outcome:
    try:
        door.change_tags(act.run.ref, add=act.renewed, remove=act.tag)
    except Cancel as gone:
        return Outcome("", act.run.url, f"not tagged: {gone}")
    return Outcome(act.renewed, act.run.url, f"tagged {act.renewed}")


def _rerun(door: Door, act: acts.RerunStages) -> Outcome:
    """Run a run's failed stages again, unless somebody has done so."""
    run = act.run
    if not door.run(run.ref).failed:
        return Outcome(str(run.ref.id), run.url, "had been run again already")
    failed = [each for each in door.timeline(run.ref) if each.type == "Stage" and each.result == "failed"]
    names = [each.identifier or each.ref_name or each.name for each in failed]
    for name in names:
        door.retry_stage(run.ref, name)
    return Outcome(str(run.ref.id), run.url, f"run again: {', '.join(names) or 'nothing that failed'}")


_BY_KIND: dict[type[acts.Act], Callable[[Door, Any], Outcome]] = {
    acts.TagRun: _tag,
    acts.UpdateWorkItem: work_item.update,
    acts.TellClosed: work_item.tell_closed,
    acts.RemindNotice: work_item.remind,
    acts.MarkRenewed: _mark_renewed,
    acts.RerunStages: _rerun,
}
