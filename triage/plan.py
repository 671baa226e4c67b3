"""7 decide: what a finding calls for, and what an incident's people are to be told when. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from triage.acts import (
    EndThread,
    EndWorkItem,
    FileWorkItem,
    MarkRenewed,
    PostThread,
    ReopenWorkItem,
    RerunStages,
    TagRun,
    TellClosed,
    UpdateWorkItem,
)
from triage.domain import Confidence, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from triage.acts import Act, Earlier
    from triage.config import AfterRenewal
    from triage.config import Policy as PolicySettings
    from triage.domain import Evidence, Finding, Run

_TAGGED_AT_ONCE = 100  # runs; of the rest of a storm the incident's page tells
RENEWED = "credential-renewed"  # takes the place of policy.tag
_LINKED_AT_ONCE = 10  # pipelines; a work item takes 1,000 links


@dataclass(frozen=True)
class Policy:
    """What a person has decided about acting."""

    tag: str = "expired-credential"
    work_item_type: str | None = None
    settle_seconds: float = 2.0
    pull_request_work_items: str = "proven-use"
    default_assignee: str | None = None
    group_wait: timedelta = timedelta(seconds=30)
    group_interval: timedelta = timedelta(minutes=5)
    repeat_interval: timedelta = timedelta(hours=24)
    items_per_project_hour: int = 10
    work_item_after: str = "close"  # or resolve, comment
    reopen_within: timedelta = timedelta(hours=24)
    rerun_pipelines: int = 0
    test_credential: bool = False

    @classmethod
    def from_settings(
        cls, settings: PolicySettings, after: AfterRenewal, *, default_assignee: str | None = None
    ) -> Policy:
        """Return the policy that the settings describe."""
        return cls(
            tag=settings.tag,
            work_item_type=settings.work_item_type,
            settle_seconds=settings.settle_seconds,
            pull_request_work_items=settings.pull_request_work_items,
            default_assignee=default_assignee,
            group_wait=timedelta(seconds=settings.group_wait_seconds),
            group_interval=timedelta(seconds=settings.group_interval_seconds),
            repeat_interval=timedelta(seconds=settings.repeat_interval_seconds),
            items_per_project_hour=settings.items_per_project_hour,
            work_item_after=after.work_item,
            reopen_within=timedelta(hours=after.reopen_hours),
            rerun_pipelines=after.rerun_pipelines,
            test_credential=after.test_credential,
        )


@dataclass(frozen=True)
class News:
    """What an incident's people have not been told."""

    finding: Finding  # that opened the incident
    title: str  # of the incident
    runs: tuple[Run, ...]  # nothing was said on them, or on their pull requests, the oldest first
    pipelines: tuple[Run, ...]  # the first run of each pipeline that the work item does not know
    count: int  # runs that the incident broke
    item_count: int  # of which the work item knows
    item_at: datetime | None  # when the work item was written to last
    latest: Run  # that it broke
    newest: int  # finding of all this
    came_back: bool = False  # since its work item was written to: it had been closed
    since: str = ""  # when it came back, or began after an earlier one; "" the first time
    earlier: tuple[Earlier, ...] = ()  # times that it had to be renewed before, the last first
    digest: int | None = None  # the work item that spoke for it until now; it gets its own


def actionable(finding: Finding, policy: Policy) -> str | None:
    """Return why nothing is done about a finding, None when something is."""
    match, run = finding.match, finding.run
    if match.verdict is Verdict.LOOK_ALIKE:
        return f"no credential needs renewal: {match.explanation}"
    if match.confidence is Confidence.HINT:
        return "the rule is only a hint; the finding is recorded."
    from_outside = run.reason == "pullRequest" or run.is_fork
    if from_outside and not finding.attribution.proven_use:
        return "a pull request's log says so, but nothing shows that the run used a connection."
    if from_outside and policy.pull_request_work_items == "never":
        return "pull-request runs open no work items (policy.pull_request_work_items)."
    return None


def incident_key(finding: Finding) -> str:
    """Return which credential it is: its connection, or the pipeline's credential of this kind."""
    if finding.connection is not None:
        return f"connection:{finding.connection.id}"
    # Releases are numbered apart from pipelines.
    kind = "release" if finding.run.ref.kind == "release" else "pipeline"
    return f"{kind}:{finding.run.project_id}:{finding.run.pipeline_id}:{finding.match.credential}"


def incident_tag(organization_url: str, key: str) -> str:
    """Return the tag by which the incident's work item is found again."""
    return "triage-" + hashlib.sha256(f"{organization_url.lower()}|{key}".encode()).hexdigest()[:12]


def fingerprint(run: Run, evidence: Evidence) -> str:
    """Return by what a further run is known to fail of the same cause: same step, same message.

    "" for what cannot be known again. The branch and what the run was asked to do are part of it: the
    same step of the same pipeline may use another connection there.
    """
    record = evidence.record
    if record is None or evidence.match.confidence is Confidence.HINT:
        return ""
    step = (record.identifier or record.ref_name or "", record.name, str(record.task or ""))
    said = [evidence.match.rule, sorted(evidence.match.captures.items())]
    same = [run.project_id, run.pipeline_id, run.source_branch, run.asked, *step, *said]
    return hashlib.sha256(json.dumps(same).encode()).hexdigest()[:32]


def telling_wait(count: int, *, is_news: bool, policy: Policy) -> timedelta:
    """Return how soon an incident's people are told of one more run: soon, or with others of its kind."""
    return policy.group_wait if is_news or _is_round(count) else policy.group_interval


def item_due(news: News, policy: Policy) -> datetime | None:
    """Return when the work item, already filed, hears of the news; None when it has none for it.

    A further pipeline or a round number (10, 100, …) is worth a revision, but not more often than
    every group_interval; a count that only grows is, every repeat_interval.
    """
    if news.item_at is None or news.count <= news.item_count:
        return None
    if news.pipelines or _digits(news.count) > _digits(news.item_count):
        return news.item_at + policy.group_interval
    return news.item_at + policy.repeat_interval


def decide(
    news: News,
    *,
    incident_id: int,
    incident_tag: str,
    work_item: int | None,
    now: datetime,
    policy: Policy,
    pages_url: str,
) -> tuple[Act, ...]:
    """Return what to do, in order. An incident has one work item, a pull request one thread of it."""
    page = f"{pages_url}/incidents/{incident_id}"
    # A release cannot be tagged: the SDK knows no such call.
    untold = (*news.runs, news.latest) if news.came_back else news.runs
    tagged = {str(run.ref): run for run in untold[-_TAGGED_AT_ONCE:] if run.ref.kind == "build"}
    actions: list[Act] = [TagRun(run, policy.tag, news.since) for run in tagged.values()]
    pipelines = news.pipelines[:_LINKED_AT_ONCE]
    project = news.finding.run.project_id
    due = item_due(news, policy)
    if work_item is not None and news.came_back:
        actions.append(ReopenWorkItem(news.latest, project, work_item, news.since))
    if work_item is None:
        actions.append(
            FileWorkItem(
                news.finding,
                news.title,
                incident_tag,
                page,
                pipelines,
                news.count,
                news.earlier,
                news.digest,
            )
        )
    elif due is not None and due <= now:
        more = len(news.pipelines) - len(pipelines)
        linked = pipelines or (news.latest,)
        actions.append(UpdateWorkItem(linked, more, news.count, project, work_item, page))
    if work_item is not None and news.runs and not news.came_back:
        actions.append(TellClosed(news.runs[-1], project, work_item))
    actions += [
        PostThread(replace(news.finding, run=run), incident_tag, work_item)
        for run in _pull_requests(news.runs)
    ]
    return tuple(actions)


def after(
    finding: Finding,
    runs: tuple[Run, ...],
    *,
    incident_tag: str,
    work_item: int | None,
    proof: str,
    since: str,
    policy: Policy,
) -> tuple[Act, ...]:
    """Return what to do once a credential works again.

    `runs` are those that it alone broke, the oldest first; `since` is when its incident came back, or began
    after an earlier one, "" the first time.
    """
    project = finding.run.project_id
    actions: list[Act] = [EndWorkItem(project, work_item, proof, since)] if work_item is not None else []
    actions += [EndThread(replace(finding, run=run), incident_tag) for run in _pull_requests(runs)]
    tagged = [run for run in runs[-_TAGGED_AT_ONCE:] if run.ref.kind == "build"]
    actions += [MarkRenewed(run, policy.tag, RENEWED, since) for run in tagged]
    newest = {run.pipeline_id: run for run in runs if run.ref.kind == "build"}
    again = list(newest.values())[-policy.rerun_pipelines :] if policy.rerun_pipelines else []
    return (*actions, *(RerunStages(run) for run in again))


def _pull_requests(runs: Iterable[Run]) -> list[Run]:
    """Return the newest run of each pull request that can be told: those of Azure Repos."""
    newest = {
        (run.repository_id, run.pull_request): run
        for run in runs
        if run.pull_request is not None and run.repository_type == "TfsGit" and run.repository_id
    }
    return list(newest.values())


def _is_round(count: int) -> bool:
    """Return True for 1, 10, 100 and so on."""
    return str(count).rstrip("0") == "1"


def _digits(count: int) -> int:
    return len(str(count))
