"""7 decide: what a finding calls for. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from triage.domain import Confidence, Verdict

if TYPE_CHECKING:
    from triage.config import Policy as PolicySettings
    from triage.domain import Finding


@dataclass(frozen=True)
class Policy:
    """What a person has decided about acting."""

    tag: str = "expired-credential"
    work_item_type: str | None = None
    settle_seconds: float = 2.0
    pull_request_work_items: str = "proven-use"
    default_assignee: str | None = None

    @classmethod
    def from_settings(cls, settings: PolicySettings, *, default_assignee: str | None = None) -> Policy:
        """Return the policy that the settings describe."""
        return cls(
            tag=settings.tag,
            work_item_type=settings.work_item_type,
            settle_seconds=settings.settle_seconds,
            pull_request_work_items=settings.pull_request_work_items,
            default_assignee=default_assignee,
        )


@dataclass(frozen=True)
class TagRun:
    """Mark the run."""

    finding: Finding
    tag: str


@dataclass(frozen=True)
class FileWorkItem:
    """Open the credential's one work item."""

    finding: Finding
    incident_tag: str
    incident_page: str


@dataclass(frozen=True)
class LinkRun:
    """Tell the existing work item of another pipeline that the same credential breaks."""

    finding: Finding
    work_item: int


@dataclass(frozen=True)
class TellClosed:
    """Say once, on a work item that a person has closed, that its credential still breaks runs."""

    finding: Finding
    work_item: int


@dataclass(frozen=True)
class PostThread:
    """Tell the pull request's people that it is not their change."""

    finding: Finding
    incident_tag: str
    work_item: int | None


Action = TagRun | FileWorkItem | LinkRun | TellClosed | PostThread


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


def decide(
    finding: Finding,
    *,
    incident_id: int,
    incident_tag: str,
    work_item: int | None,
    first_of_pipeline: bool,
    policy: Policy,
    pages_url: str,
) -> tuple[Action, ...]:
    """Return what to do, in order. An incident has one work item, a pull request one thread of it."""
    # A release cannot be tagged: the SDK knows no such call.
    actions: list[Action] = [TagRun(finding, policy.tag)] if finding.run.ref.kind == "build" else []
    if work_item is None:
        actions.append(FileWorkItem(finding, incident_tag, f"{pages_url}/incidents/{incident_id}"))
    elif first_of_pipeline:
        actions.append(LinkRun(finding, work_item))
    else:  # a link for each of 5,000 runs would only fill the item's history
        actions.append(TellClosed(finding, work_item))
    run = finding.run
    if run.pull_request is not None and run.repository_type == "TfsGit" and run.repository_id:
        actions.append(PostThread(finding, incident_tag, work_item))
    return tuple(actions)


def key(action: Action, incident_id: int) -> str:
    """Return what makes an action the same when it is decided again."""
    run = action.finding.run
    match action:
        case TagRun(tag=tag):
            return f"tag:{run.ref}:{tag}"
        case FileWorkItem():
            return f"item:{incident_id}"
        case LinkRun():
            return f"item-run:{incident_id}:{run.ref}"
        case TellClosed():
            return f"item-closed:{incident_id}:{run.ref}"
        case PostThread():
            return f"thread:{run.repository_id}:{run.pull_request}:{incident_id}"
        case _:
            assert_never(action)


def is_repeated(action: Action) -> bool:
    """Return True for what each run does again, one at a time: it brings the same thread up to date."""
    return isinstance(action, PostThread)


def kind(action: Action) -> str:
    """Return what an action is called on triage's pages."""
    match action:
        case TagRun():
            return "run tagged"
        case FileWorkItem():
            return "work item filed"
        case LinkRun():
            return "work item told of another run"
        case TellClosed():
            return "work item looked at"
        case PostThread():
            return "pull request told"
        case _:
            assert_never(action)
