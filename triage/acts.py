"""What triage can do on Azure DevOps: each act a value, decided by `plan`, carried out by `publish`.

`key` makes an act the same when it is decided again; `str` says in one line what would be done.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from datetime import datetime

    from triage.domain import Finding, Run


class Act(ABC):
    """What is common to all: `about` is unique among the acts of one name for an incident."""

    prefix: ClassVar[str]  # of the key
    name: ClassVar[str]  # on triage's pages
    is_of_incident: ClassVar[bool] = True  # False: two incidents may ask for it, and it is done once
    is_repeated: ClassVar[bool] = False  # done by each run, one at a time: it brings one thing up to date

    @property
    @abstractmethod
    def about(self) -> str:
        """What is acted upon."""

    @property
    def run_key(self) -> str:
        """The run that is acted upon, "" when it is none."""
        return ""

    def key(self, incident_id: int) -> str:
        """Return the key under which the act is written down."""
        parts = (self.prefix, str(incident_id) if self.is_of_incident else "", self.about)
        return ":".join(part for part in parts if part)


@dataclass(frozen=True)
class _OnRun(Act, ABC):
    run: Run

    @property
    def run_key(self) -> str:
        return str(self.run.ref)

    @property
    def about(self) -> str:
        return self.run_key


@dataclass(frozen=True)
class _OnPullRequest(Act, ABC):
    finding: Finding  # with the run of that pull request
    incident_tag: str
    prefix = "thread"
    name = "pull request told"
    is_repeated = True

    @property
    def run_key(self) -> str:
        return str(self.finding.run.ref)

    @property
    def about(self) -> str:
        return f"{self.finding.run.repository_id}:{self.finding.run.pull_request}"


EARLIER_MAX = 10  # so many of them are told


@dataclass(frozen=True)
class Earlier:
    """An earlier incident of the same credential."""

    opened_at: datetime
    closed_at: datetime | None
    renewed_by: str  # "" when it is not known
    work_item: int | None


@dataclass(frozen=True)
class TagRun(_OnRun):
    """Mark the run."""

    tag: str
    since: str = ""  # when its incident came back: the run may have been marked as renewed meanwhile
    prefix = "tag"
    name = "run tagged"
    is_of_incident = False

    @property
    def about(self) -> str:
        """A run is tagged once, whatever its incident."""
        return f"{self.run.ref}:{self.tag}{self.since and '@'}{self.since}"

    def __str__(self) -> str:
        """See the module."""
        return f"tag the run {self.tag}"


@dataclass(frozen=True)
class FileWorkItem(Act):
    """Open the credential's one work item; it knows these pipelines from the start."""

    finding: Finding
    title: str
    incident_tag: str
    incident_page: str
    pipelines: tuple[Run, ...] = ()
    count: int = 1
    earlier: tuple[Earlier, ...] = ()
    digest: int | None = None  # the work item that spoke for it until now
    prefix = "item"
    name = "work item filed"

    @property
    def about(self) -> str:
        """An incident has one."""
        return ""

    @property
    def run_key(self) -> str:
        """The run that opened the incident."""
        return str(self.finding.run.ref)

    def __str__(self) -> str:
        """See the module."""
        who = self.finding.owner.assignee or self.finding.owner.team or "nobody"
        return f"file one work item in {self.finding.run.project_name}, assigned to {who}: {self.title}"


@dataclass(frozen=True)
class FileNotice(Act):
    """Open a work item that is about no single credential: a digest, or trouble of triage's own."""

    project: str
    title: str
    text: str  # Markdown
    notice_tag: str
    assignees: tuple[str, ...] = ()  # the first that Azure DevOps accepts; none: the default
    area: str | None = None
    more_tags: tuple[str, ...] = ()
    link: tuple[str, str] | None = None  # address, title
    prefix = "notice"
    name = "notice filed"
    is_of_incident = False

    @property
    def about(self) -> str:
        """The tag by which it is found again."""
        return self.notice_tag

    def __str__(self) -> str:
        """See the module."""
        return f"file one work item of triage's own: {self.title}"


@dataclass(frozen=True)
class RemindNotice(Act):
    """Say once, on a notice that is still open, that less time is left."""

    project: str
    work_item: int
    text: str  # Markdown
    tag: str  # put on the item when it is said, in the place of `former`
    former: tuple[str, ...] = ()
    prefix = "reminder"
    name = "owner reminded"
    is_of_incident = False

    @property
    def about(self) -> str:
        """The item, and how much time is left."""
        return f"{self.work_item}:{self.tag}"

    def __str__(self) -> str:
        """See the module."""
        return f"remind on work item {self.work_item}: {self.tag}"


@dataclass(frozen=True)
class UpdateWorkItem(Act):
    """Tell the work item, in one revision, of further pipelines and of how many runs there are by now."""

    runs: tuple[Run, ...]  # to be linked; never empty
    more: int  # further pipelines, not linked
    count: int
    project: str
    work_item: int
    incident_page: str
    prefix = "item-run"
    name = "work item told of further runs"

    @property
    def about(self) -> str:
        """The newest run to be linked."""
        return str(self.runs[-1].ref)

    def __str__(self) -> str:
        """See the module."""
        return f"tell work item {self.work_item} of further runs"


@dataclass(frozen=True)
class TellClosed(_OnRun):
    """Say once, on a work item that a person has closed, that its credential still breaks runs."""

    project: str
    work_item: int
    prefix = "item-closed"
    name = "work item looked at"

    def __str__(self) -> str:
        """See the module."""
        return f"say on work item {self.work_item} that it goes on, if somebody has closed it"


@dataclass(frozen=True)
class TellChanged(Act):
    """Say once on a work item that its connection was changed, and what will close the item."""

    project: str
    work_item: int | None  # None: nowhere, its item speaks for others as well
    changed_at: datetime
    changed_by: str  # "" when it is not known
    refused: str = ""  # what a test of the credential said against it since
    prefix = "item-changed"
    name = "work item told of a change"

    @property
    def about(self) -> str:
        """The change."""
        return self.changed_at.isoformat()

    def __str__(self) -> str:
        """See the module."""
        return f"say on work item {self.work_item} that the connection was changed"


@dataclass(frozen=True)
class ReopenWorkItem(_OnRun):
    """Open a work item of ours again: its credential has failed again soon after it worked."""

    project: str
    work_item: int
    since: str  # when its incident came back
    prefix = "item-again"
    name = "work item opened again"

    @property
    def about(self) -> str:
        """The run, and which time: the same run may be run again and fail again."""
        return f"{self.run.ref}@{self.since}"

    def __str__(self) -> str:
        """See the module."""
        return f"open work item {self.work_item} again"


@dataclass(frozen=True)
class EndWorkItem(Act):
    """Say on the work item that the credential works again, and close it if that is the policy."""

    project: str
    work_item: int
    proof: str  # Markdown, one sentence
    since: str = ""  # when its incident came back
    prefix = "item-end"
    name = "work item ended"

    @property
    def about(self) -> str:
        """The proof: an incident that comes back is ended again, by another one."""
        return hashlib.sha256(f"{self.proof}{self.since}".encode()).hexdigest()[:16]

    def __str__(self) -> str:
        """See the module."""
        return f"say on work item {self.work_item} that it works again"


@dataclass(frozen=True)
class PostThread(_OnPullRequest):
    """Tell the pull request's people that it is not their change."""

    work_item: int | None

    def __str__(self) -> str:
        """See the module."""
        return f"leave one thread on pull request {self.finding.run.pull_request}"


@dataclass(frozen=True)
class EndThread(_OnPullRequest):
    """Tell a pull request's people that they can run their pipeline again."""

    def __str__(self) -> str:
        """See the module."""
        return f"tell pull request {self.finding.run.pull_request} that it works again"


@dataclass(frozen=True)
class MarkRenewed(_OnRun):
    """Change the mark on a run: it need not be looked at any more, only run again."""

    tag: str  # that goes
    renewed: str  # that comes
    since: str = ""  # when its incident came back
    prefix = "tag"
    name = "run marked as renewed"
    is_of_incident = False

    @property
    def about(self) -> str:
        """A run is marked once, whatever its incident."""
        return f"{self.run.ref}:{self.renewed}{self.since and '@'}{self.since}"

    def __str__(self) -> str:
        """See the module."""
        return f"tag the run {self.renewed}"


@dataclass(frozen=True)
class RerunStages(_OnRun):
    """Run the failed stages of a run again."""

    prefix = "rerun"
    name = "run again"
    is_of_incident = False

    def __str__(self) -> str:
        """See the module."""
        return f"run the failed stages of run {self.run.number} again"
