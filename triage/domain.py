"""The words of triage: frozen values that every step shares."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec reads the types of these values
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003
from enum import StrEnum
from typing import Literal


class Verdict(StrEnum):
    """What the text itself proves about the credential."""

    EXPIRED = "expired"
    REVOKED = "revoked"
    REJECTED = "rejected"  # refused, and the text cannot tell expired from wrong
    MISSING = "missing"
    MISCONFIGURED = "misconfigured"
    LOOK_ALIKE = "look-alike"  # tempting, but no credential needs renewal

    @property
    def rank(self) -> int:
        """0 for a look-alike, highest for what proves most: the order above, backwards."""
        return list(reversed(Verdict)).index(self)


class Confidence(StrEnum):
    """How sure a rule is, and so what may be done about it."""

    CERTAIN = "certain"  # act
    LIKELY = "likely"  # act and ask to confirm
    HINT = "hint"  # record only

    @property
    def rank(self) -> int:
        """0 for a hint, 2 for certain."""
        return ("hint", "likely", "certain").index(self.value)


class LinkMethod(StrEnum):
    """How a finding's service connection is known, best evidence first."""

    MESSAGE = "named in the message"
    TASK_INPUT = "input of the failed task"
    RESOURCE = "resource of the pipeline"
    ENVIRONMENT = "environment of the deployment job"
    EARLIER_STEP = "handed over by an earlier step"
    EXECUTION_HISTORY = "execution history"
    DEBUG_LOG = "debug lines of the step"
    IDENTIFIER = "identifiers in the message"
    ONLY_CANDIDATE = "only candidate"
    UNDECIDED = "undecided"


class OwnerMethod(StrEnum):
    """How a connection's owner is known, best evidence first."""

    OWNERS_FILE = "owners file"
    SERVICE_TREE = "service management reference"
    ADMINISTRATOR = "administrator of the connection"
    MODIFIED_BY = "last changed the connection"
    CREATED_BY = "created the connection"
    REQUESTER = "asked for the run"
    FALLBACK = "default team"
    NOBODY = "nobody found"


@dataclass(frozen=True)
class RunRef:
    """Which run: the only thing triage believes of an event."""

    project: str  # project GUID, or its name where the event has no GUID
    id: int  # build id; release id when kind is "release"
    kind: Literal["build", "release"] = "build"
    environment_id: int | None = None  # of a release

    def __str__(self) -> str:
        """Return the key under which a run is stored once."""
        environment = f"/{self.environment_id}" if self.environment_id is not None else ""
        return f"{self.project}/{self.kind}/{self.id}{environment}"


@dataclass(frozen=True)
class Identity:
    """A person, group or service as Azure DevOps names it."""

    id: str
    display_name: str
    unique_name: str | None = None  # mail-like for people
    descriptor: str | None = None  # "aad.…", "msa.…", "svc.…", "aadsp.…", "vssgp.…"
    is_container: bool = False  # a group


@dataclass(frozen=True)
class Run:
    """A finished pipeline run, re-read from Azure DevOps by its id."""

    ref: RunRef
    project_id: str
    project_name: str
    number: str  # "20261121.3"
    pipeline_id: int
    pipeline_name: str
    pipeline_revision: int | None
    status: str  # completed, inProgress, …
    result: str  # succeeded, partiallySucceeded, failed, canceled, none
    reason: str  # manual, individualCI, pullRequest, schedule, …
    source_branch: str
    source_version: str
    url: str  # the run's page, built by us from ids
    repository_id: str | None = None
    repository_type: str | None = None  # TfsGit, GitHub, …
    repository_name: str | None = None
    pull_request: int | None = None
    is_fork: bool = False
    requested_for: Identity | None = None
    requested_by: Identity | None = None
    finished_at: datetime | None = None
    started_at: datetime | None = None
    validation_errors: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)  # given when queued; lower case
    asked: str = ""  # digest of the parameters and variables that it was queued with

    @property
    def failed(self) -> bool:
        """True for a result that can hide an expired credential."""
        return self.result in {"failed", "partiallySucceeded"}


@dataclass(frozen=True)
class Task:
    """A pipeline task as the timeline names it."""

    id: str  # GUID
    name: str  # AzureCLI
    version: str  # 2.250.1

    @property
    def major(self) -> str:
        """Return the part of the version that a pipeline's author chose."""
        return self.version.split(".", 1)[0]

    def __str__(self) -> str:
        """Return the task as YAML spells it."""
        return f"{self.name}@{self.major}"


@dataclass(frozen=True)
class Issue:
    """An error or warning that the agent copied from a log to the timeline (ten at most)."""

    kind: Literal["error", "warning"]
    message: str
    line: int | None = None  # 1-based line of the record's own log


@dataclass(frozen=True)
class TimelineRecord:
    """A stage, job or task of a run."""

    id: str
    parent_id: str | None
    type: str  # Stage, Phase, Job, Task, Checkpoint, …
    name: str  # its display name
    state: str
    result: str | None
    attempt: int = 1
    order: int | None = None
    identifier: str | None = None  # stage.phase.job.task, stable across attempts
    ref_name: str | None = None
    log_id: int | None = None
    phase_id: int | None = None  # of a release: the deploy phase that its log is kept under
    task: Task | None = None
    issues: tuple[Issue, ...] = ()
    error_count: int = 0
    finished_at: datetime | None = None  # of a release's task it is not read


@dataclass(frozen=True)
class Match:
    """A rule on one line of one log: the evidence. Its text is already masked."""

    rule: str
    title: str
    credential: str  # family: azure-entra-client-secret, azure-container-registry, …
    verdict: Verdict
    confidence: Confidence
    line: int  # 1-based, as Azure DevOps numbers it
    captures: Mapping[str, str]
    excerpt: str
    explanation: str = ""  # of a look-alike: what it is instead
    connection_types: tuple[str, ...] = ()  # lower case; empty: any
    advice: str = ""  # id of a recipe that this very message asks for

    @property
    def strength(self) -> tuple[int, int, int]:
        """Return what to compare matches by: the surer rule, then the clearer text, then the earlier line."""
        return self.confidence.rank, self.verdict.rank, -self.line


@dataclass(frozen=True)
class Evidence:
    """A match and the step that printed it."""

    match: Match
    record: TimelineRecord | None  # None: the run's own validation errors
    source: Literal["log", "issue", "validation"] = "log"


@dataclass(frozen=True)
class Connection:
    """A service connection as one project sees it. Holds no secret."""

    id: str  # GUID
    name: str  # the name in this project
    type: str  # lower case: azurerm, dockerregistry, …
    scheme: str  # lower case: serviceprincipal, workloadidentityfederation, token, …
    project_id: str
    url: str  # its page in the project's settings, built by us
    server_url: str = ""
    description: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)  # authorization, keys lower case
    data: Mapping[str, str] = field(default_factory=dict)  # keys lower case
    created_by: Identity | None = None
    modified_by: Identity | None = None
    created_at: datetime | None = None
    modified_at: datetime | None = None
    administrators: tuple[Identity, ...] = ()
    service_management_reference: str | None = None
    is_ready: bool = True
    is_shared: bool = False
    project_count: int = 0  # projects it is shared with, this one included, as far as triage may see them
    is_disabled: bool = False
    operation_message: str = ""  # operationStatus.statusMessage
    revert_until: datetime | None = None  # until when a conversion to federation can be undone

    @property
    def creation_mode(self) -> str:
        """Return "automatic", "manual" or "" when the type has no such thing.

        Registry connections made by Azure DevOps may carry no creationMode; the ids of what it
        made in Entra (appObjectId, spnObjectId) then tell.
        """
        mode = self.data.get("creationmode", "").lower()
        if mode or self.scheme != "serviceprincipal":
            return mode
        return "automatic" if self.data.get("appobjectid") else "manual"

    @property
    def authentication(self) -> str:
        """Return "spnkey", "spncertificate" or ""."""
        kind = self.parameters.get("authenticationtype", "").lower()
        return kind or ("spnkey" if self.scheme == "serviceprincipal" else "")


@dataclass(frozen=True)
class Candidate:
    """A connection that could be meant, and why."""

    connection: Connection
    reason: str


@dataclass(frozen=True)
class Attribution:
    """Which connection a finding is about, and how that is known."""

    connection: Connection | None
    method: LinkMethod
    reason: str  # one sentence, for people
    candidates: tuple[Candidate, ...] = ()  # when undecided
    proven_use: bool = False  # this run certainly used the connection (task input, history)


@dataclass(frozen=True)
class Owner:
    """Who should renew it, and how that is known."""

    assignee: str | None  # what System.AssignedTo takes: a unique name; None leaves it open
    method: OwnerMethod
    reason: str  # one sentence, for people
    identity: Identity | None = None
    team: str | None = None
    area: str | None = None  # area path; None: the project's root
    creator_left: bool = False  # who created the connection is known to be gone


@dataclass(frozen=True)
class Recipe:
    """The renewal that fits this connection, its placeholders filled in. Markdown lines."""

    id: str
    title: str
    steps: tuple[str, ...]
    command_line: tuple[str, ...] = ()  # the same from the command line, or one sentence why not
    warnings: tuple[str, ...] = ()
    alternatives: tuple[tuple[str, tuple[str, ...]], ...] = ()  # title, steps
    lasting: tuple[str, str] | None = None  # the alternative that ends the renewals: title, what it takes
    permissions: tuple[str, ...] = ()
    verify: str = ""
    meanwhile: str = ""  # what breaks until it is renewed, and by renewing it
    interval: str = ""  # "three months": when it comes again
    no_alternative: str = ""  # why it comes again for ever, when there is no alternative
    references: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()  # title, address: the pages that the steps are done on


@dataclass(frozen=True)
class Pipeline:
    """A pipeline or classic release pipeline, as a connection's execution history names it."""

    project_id: str
    id: int
    name: str
    url: str  # its page, built by us
    kind: Literal["build", "release"] = "build"


@dataclass(frozen=True)
class Impact:
    """Which other pipelines used the connection lately, and so fail next."""

    pipelines: tuple[Pipeline, ...] = ()  # the one that used it last comes first
    more: int = 0  # further ones, not named
    is_whole: bool = True  # False: the history goes on behind what was read


@dataclass(frozen=True)
class Finding:
    """One run's conclusion about one credential."""

    run: Run
    evidence: Evidence
    attribution: Attribution
    owner: Owner
    recipe: Recipe
    impact: Impact = field(default_factory=Impact)

    @property
    def match(self) -> Match:
        """Return the match that decided."""
        return self.evidence.match

    @property
    def failed_at(self) -> datetime | None:
        """Return when the step had failed: a run may go on for hours after that."""
        step = self.evidence.record.finished_at if self.evidence.record else None
        began = self.run.started_at
        return step if step and not (began and step < began) else self.run.finished_at

    @property
    def connection(self) -> Connection | None:
        """Return the connection, when it is known."""
        return self.attribution.connection
