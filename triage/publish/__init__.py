"""8 act: carry out one act on Azure DevOps, safely when it may have been done already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triage import acts
from triage.errors import Cancel
from triage.publish import pull_request, work_item
from triage.publish.messages import title
from triage.publish.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from triage.azdo import Door
    from triage.plan import Policy

__all__ = ["Outcome", "carry_out", "title"]

_ACT_SECONDS = 120.0  # with the longest settling, less than the lease of an effect (effects.py)


def carry_out(door: Door, act: acts.Act, *, attempts: int, policy: Policy) -> Outcome:
    """Do it. `attempts` above 1 means that an earlier attempt may have done it, its reply lost."""
    with door.within(_ACT_SECONDS + policy.settle_seconds):
        return _carry_out(door, act, attempts, policy)


def _carry_out(door: Door, act: acts.Act, attempts: int, policy: Policy) -> Outcome:
    if isinstance(act, acts.FileWorkItem):
        return work_item.file(door, act, policy, in_doubt=attempts > 1)
    if isinstance(act, acts.FileNotice):
        return work_item.file_notice(door, act, policy, in_doubt=attempts > 1)
    if isinstance(act, acts.EndWorkItem):
        return work_item.end(door, act, policy)
    if isinstance(act, acts.ReopenWorkItem):
        return work_item.reopen(door, act, policy)
    return _BY_KIND[type(act)](door, act)


def _tag(door: Door, act: acts.TagRun) -> Outcome:
    try:
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
    acts.PostThread: pull_request.post,
    acts.EndThread: pull_request.end,
    acts.MarkRenewed: _mark_renewed,
    acts.RerunStages: _rerun,
}
