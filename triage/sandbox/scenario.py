"""What a scenario file may say. A wrong key or value is told with the file's name."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    from pathlib import Path


class ScenarioError(ValueError):
    """A scenario file is wrong; the text names every mistake."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProjectTable(_Table):
    """The project that the story happens in; each story has its own."""

    name: str
    process: Literal["Agile", "Basic"] = "Agile"


class ConnectionTable(_Table):
    """A service connection of the project."""

    name: str
    type: str = "azurerm"
    scheme: str = "ServicePrincipal"
    creation: Literal["Automatic", "Manual", ""] = ""
    authentication: Literal["spnKey", "spnCertificate", ""] = ""
    url: str = "https://management.azure.com/"
    description: str = ""  # `<<day 14>>` is the day in two weeks
    parameters: dict[str, str] = Field(default_factory=dict)  # of the authorization; win over the defaults
    data: dict[str, str] = Field(default_factory=dict)
    created_by: str = "Platform Engineer"
    modified_by: str = ""
    administrators: str = ""  # a group
    service_management_reference: str | None = None
    ready: bool = True


class StepTable(_Table):
    """A task of a job, and what it prints."""

    task: str = "CmdLine@2"
    name: str
    stage: str = "Build"
    job: str = "Linux"
    attempt: int = 1  # of its stage
    inputs: dict[str, str] = Field(default_factory=dict)  # `<<id NAME>>` is a connection's GUID
    script: str = ""  # the agent prints it before it runs it
    noise: tuple[str, int] = ("agent", 20)
    output: list[str] = Field(default_factory=list)  # messages as they are, each may have several lines
    errors: list[str] = Field(default_factory=list)  # messages behind ##[error]; the timeline's issues too
    afterwards: int = 12  # lines of noise behind them
    result: Literal["", "succeeded", "failed"] = ""  # "": failed when it has errors
    continue_on_error: bool = False
    page_break: bool = False  # a byte order mark in the middle of the log


class PullRequestTable(_Table):
    """The pull request that a run builds."""

    id: int
    title: str = "Move the deployment to the new cluster"
    author: str = "Pull Request Author"
    is_fork: bool = False


class RunTable(_Table):
    """A run of a pipeline."""

    pipeline: str
    branch: str = "refs/heads/main"
    reason: Literal["individualCI", "manual", "schedule", "pullRequest"] = "individualCI"
    requested_for: str = "Build Requester"
    designer: bool = False
    environment: str = ""  # of a classic release; then the run is its deployment there
    windows: bool = False
    logs: bool = True  # False: the agent died before it could send any
    variables: dict[str, str] = Field(default_factory=dict)
    steps: list[StepTable] = Field(default_factory=list)
    pull_request: PullRequestTable | None = None
    validation_errors: list[str] = Field(default_factory=list)
    uses: list[str] | None = None  # connections in the execution history; None: those of its inputs
    events: list[
        Literal["build.complete", "run-state-changed", "stage-state-changed", "deployment-completed"]
    ] = Field(
        default_factory=lambda: ["build.complete"]  # type: ignore[arg-type]
    )


class AfterwardsTable(_Table):
    """What happens some time later, in the order of these keys; then triage looks at everything."""

    days: float = 0.1  # since what is told before it; the last thing of a story happens today
    connection: str = ""  # that is meant; none: the first one
    renewed_by: str = ""  # a person puts a new secret into it
    ends_in_days: int | None = None  # so many days are left by now: the date in its description is moved
    closed_by: str = ""  # a person closes the open work items
    run: Literal["", "passes", "fails"] = ""  # a pipeline of [[runs]] runs again
    pipeline: str = ""  # which; none: the first one


class Expected(_Table):
    """What triage must have made of the story. Without a credential: nothing."""

    rule: str | None = None
    credential: str | None = None
    verdict: str | None = None
    connection: str | None = None
    link: str | None = None
    owner: str | None = None
    recipe: str | None = None
    work_item: str | None = None  # its type
    work_items: list[str] | None = None  # the categories of their states, the oldest first; None: one at most
    incident: Literal["open", "open again", "closed"] | None = None  # the last one
    runs: int = 0  # that the incident has
    thread: bool = False
    tag: bool = False
    run_tag: str | None = None  # the only tag that the failed runs have
    said: list[str] = Field(default_factory=list)  # what a work item, a comment or a thread must say
    log_text: str | None = None  # the evidence must contain it
    never: list[str] = Field(default_factory=list)  # what no work item or thread may say
    either: list[Literal["thread", "tag", "runs"]] = Field(default_factory=list)  # what may happen or not


class Scenario(_Table):
    """One file of scenarios/."""

    name: str
    title: str
    story: str
    project: ProjectTable
    connections: list[ConnectionTable] = Field(default_factory=list)
    runs: list[RunTable]
    afterwards: list[AfterwardsTable] = Field(default_factory=list)
    expected: Expected


def read(path: Path) -> Scenario:
    """Read a scenario file. Raises ScenarioError with every mistake in it."""
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        scenario = Scenario.model_validate(told)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path.name}: not valid TOML: {error}") from None
    except ValidationError as error:
        raise ScenarioError(
            "\n".join(f"{path.name}: {_where(e)}: {e['msg']}" for e in error.errors())
        ) from None
    if scenario.name != path.stem:
        raise ScenarioError(
            f"{path.name}: name: is {scenario.name!r}, must be the file's name, {path.stem!r}"
        )
    return scenario


def _where(error: Any) -> str:
    return ".".join(str(step) for step in error["loc"])
