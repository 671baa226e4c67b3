"""Settings: triage.toml, triage.secrets.toml, TRIAGE_… variables, then flags; the last one wins."""

from __future__ import annotations

import difflib
import os
import tomllib
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from triage.errors import UsageError

_KEPT_DAYS_MIN = 30  # as long as Azure DevOps itself keeps a run


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Credential(_Section):
    """How triage signs in to Azure DevOps."""

    auth: Literal["token", "managed-identity", "workload-identity", "service-principal", "azure-cli"] = Field(
        default="token",
        description="How to sign in: `token`, `managed-identity`, `workload-identity`, `service-principal`, "
        "or `azure-cli` (for people).",
    )
    token: SecretStr | None = Field(default=None, description="Personal access token that triage works with.")
    tenant_id: str = Field(
        default="",
        description="Entra tenant of a service principal; of a workload identity: `AZURE_TENANT_ID`.",
    )
    client_id: str = Field(
        default="",
        description="Application of a service principal, or the client of a user-assigned managed identity.",
    )
    client_secret: SecretStr | None = Field(default=None, description="Secret of a service principal.")
    certificate_file: Path | None = Field(
        default=None, description="Certificate and private key of a service principal (PEM or PKCS#12)."
    )
    certificate_password: SecretStr | None = Field(default=None, description="Password of that file.")
    federated_token_file: Path | None = Field(
        default=None, description="Token of a workload identity; none: `AZURE_FEDERATED_TOKEN_FILE`."
    )
    authority: str = Field(
        default="https://login.microsoftonline.com",
        description="Entra's address; another one in sovereign clouds.",
        pattern=r"^https://[^/\s]+/?$",
    )
    expires_on: date | None = Field(
        default=None,
        description="Day on which the token or secret expires; `triage doctor` warns two weeks ahead.",
    )

    @property
    def configured(self) -> bool:
        """True when something is set to sign in with."""
        return self.auth != "token" or bool(self.token and self.token.get_secret_value())

    def problem(self, setting: str) -> str:
        """Return what is missing to sign in, as a sentence; "" when nothing is."""
        variable = f"TRIAGE_{setting.replace('.', '__').upper()}"
        if not self.configured:
            return (
                f"{setting}.token is not set. Create a personal access token (scopes in deploy/README.md) "
                f"and set {variable}__TOKEN, or sign in without one: {setting}.auth."
            )
        if self.auth != "service-principal":
            return ""
        missing = [name for name in ("tenant_id", "client_id") if not getattr(self, name)]
        if missing:
            return f"{setting}.{missing[0]} is not set: a service principal needs tenant_id and client_id."
        secret = bool(self.client_secret and self.client_secret.get_secret_value())
        if secret == (self.certificate_file is not None):
            return (
                f"{setting}: a service principal needs either client_secret ({variable}__CLIENT_SECRET) or "
                "certificate_file, and not both."
            )
        return ""

    def secrets(self) -> list[SecretStr]:
        """Return every secret that is set."""
        given = (self.token, self.client_secret, self.certificate_password)
        return [each for each in given if each and each.get_secret_value()]


class AzureDevOps(Credential):
    """The organisation that triage serves."""

    url: str = Field(default="", description="The organisation, e.g. `https://dev.azure.com/contoso`.")
    writer: Credential = Field(
        default_factory=Credential,
        description="A second credential, with the same keys, that alone writes; none: one for both.",
    )
    extra_hosts: list[str] = Field(
        default_factory=list, description="Further hosts the token may be sent to (Azure DevOps Server only)."
    )

    @field_validator("url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        return url.rstrip("/")


class Database(_Section):
    """Where triage remembers."""

    url: str = Field(
        default="sqlite:///triage.db", description="`sqlite:///file` or `postgresql://user:…@host/name`."
    )


class Hook(_Section):
    """How Azure DevOps proves itself to `/hooks/azure-devops`; one of the two is mandatory."""

    username: str = Field(default="triage", description="User name of the hook's basic authentication.")
    password: SecretStr | None = Field(
        default=None, description="Password of the hook's basic authentication."
    )
    header_name: str = Field(default="X-Triage-Secret", description="Name of the hook's secret header.")
    header_value: SecretStr | None = Field(default=None, description="Value of the hook's secret header.")
    max_body_bytes: int = Field(default=1024 * 1024, description="Larger events are refused unread.", gt=0)


class ServiceBus(_Section):
    """The queue that Azure DevOps' Service Bus consumer posts into, or our own hook; mostly unused."""

    connection_string: SecretStr | None = Field(
        default=None,
        description="Of a shared access policy with Listen (and Send, to forward or replay); none: no bus.",
    )
    namespace: str = Field(
        default="",
        description="Instead: `contoso.servicebus.windows.net`, where triage signs in with Entra, as in "
        "`azure_devops.auth`.",
    )
    credential: Credential = Field(
        default_factory=Credential,
        description="An Entra identity of its own for the queue, with the same keys; none: `azure_devops`.",
    )
    queue: str = Field(
        default="triage",
        description="Name of the queue.",
        max_length=260,
        pattern=r"^[A-Za-z0-9]([\w./-]*[A-Za-z0-9])?$",
    )
    receivers: int = Field(default=2, description="Receivers in `triage serve`.", ge=1, le=32)
    forward: bool = Field(
        default=False,
        description="Put what the hook receives on the queue first, so that receiving outlives the database.",
    )


class Server(_Section):
    """Where triage listens."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8080, description="Port to listen on.", ge=0, le=65535)
    public_url: str = Field(
        default="", description="How people reach triage's pages; for links in work items."
    )


class Rules(_Section):
    """What triage recognises."""

    path: Path | None = Field(default=None, description="Your own rule pack's folder; none: the shipped one.")


class Owners(_Section):
    """Who is asked when a connection does not tell."""

    file: Path | None = Field(default=None, description="TOML file of `[[owner]]` entries.")
    default_assignee: str | None = Field(default=None, description="Who gets what nobody else owns.")
    default_team: str | None = Field(
        default=None, description="Team named in work items that nobody else owns."
    )
    default_area: str | None = Field(
        default=None, description="Area path of work items that nobody else owns."
    )


class Policy(_Section):
    """What triage does with what it found."""

    work_item_type: str | None = Field(
        default=None,
        description="Type of work item; none: what the process uses for bugs, else Issue or Task.",
    )
    tag: str = Field(
        default="expired-credential", description="Tag on runs and work items.", pattern=r"^[A-Za-z0-9-]+$"
    )
    settle_seconds: float = Field(
        default=2.0,
        description="Wait before searching for a work item that may exist already.",
        ge=0,
        le=50,
    )
    pull_request_work_items: Literal["proven-use", "never"] = Field(
        default="proven-use",
        description="When pull-request runs open work items: on `proven-use` of the connection, or `never`.",
    )
    group_wait_seconds: float = Field(
        default=30.0,
        description="Wait after an incident's first failure, or a pipeline's, for others to tell with it.",
        ge=0,
    )
    group_interval_seconds: float = Field(
        default=300.0,
        description="Wait between two updates of a work item about new pipelines or round counts.",
        ge=0,
    )
    repeat_interval_seconds: float = Field(
        default=86_400.0,
        description="Wait between two updates of a work item that only say it goes on.",
        ge=0,
    )
    items_per_project_hour: int = Field(
        default=10,
        description="New work items per project and hour; what goes beyond is told in one digest.",
        ge=1,
    )


class Sweep(_Section):
    """Failed runs that no event told of: service hooks lose some, and some organisations forbid them."""

    every_seconds: float = Field(
        default=300.0, description="How often triage looks for them; 0: never by itself.", ge=0
    )
    grace_seconds: float = Field(
        default=180.0, description="How long a run's event may be on its way before it counts as lost.", ge=0
    )
    lookback_hours: float = Field(
        default=24.0, description="How far back the first sweep of a project looks.", gt=0
    )
    projects: list[str] = Field(
        default_factory=list, description="Names or ids of the projects to sweep; none: all that triage sees."
    )


class AfterRenewal(_Section):
    """What triage does once a credential works again."""

    every_seconds: float = Field(
        default=300.0, description="How often triage looks whether open incidents are over; 0: never.", ge=0
    )
    work_item: Literal["close", "resolve", "comment"] = Field(
        default="close",
        description="What becomes of the work item: `close` it, `resolve` it, or only `comment` on it.",
    )
    reopen_hours: float = Field(
        default=24.0,
        description="An incident that comes back so soon is opened again; later it is a new one.",
        ge=0,
    )
    test_credential: bool = Field(
        default=False,
        description="Once a connection was changed, have Azure DevOps try its credential, as *Verify* does "
        "(Azure Resource Manager; needs the role *User* on it).",
    )
    rerun_pipelines: int = Field(
        default=0,
        description="Of so many pipelines that it broke, the failed stages of the newest run are run again.",
        ge=0,
        le=100,
    )


class Watch(_Section):
    """Whether Azure DevOps still tells triage."""

    every_seconds: float = Field(
        default=300.0, description="How often the service hooks are looked at; 0: never.", ge=0
    )
    project: str = Field(
        default="",
        description="Project for work items of triage's own: it hears nothing any more, or its credential "
        "ends soon; none: nowhere.",
    )


class Expiry(_Section):
    """Credentials that will end: their owners are told before they do."""

    every_seconds: float = Field(
        default=86_400.0, description="How often triage looks for credentials that end soon; 0: never.", ge=0
    )
    warn_days: list[int] = Field(
        default=[30, 14, 7, 1],
        description="At so many days left a work item is filed, then reminded of.",
        min_length=1,
    )
    projects: list[str] = Field(
        default_factory=list,
        description="Names or ids of the projects to look at; none: all that triage sees.",
    )
    graph: bool = Field(
        default=False,
        description="Ask Microsoft Graph for the secrets of applications: when they end, and whether a newer "
        "one is there already when a run fails (needs Application.Read.All).",
    )
    graph_url: str = Field(
        default="https://graph.microsoft.com",
        description="Address of Microsoft Graph; another one in sovereign clouds.",
        pattern=r"^https://[^/\s]+/?$",
    )


class History(_Section):
    """What triage remembers of what is over."""

    keep_days: int = Field(
        default=400,
        description="Runs, events and closed incidents are forgotten after so many days, at least 30; "
        "0: never. How often a secret has ended before is told from what is kept.",
        ge=0,
    )

    @field_validator("keep_days")
    @classmethod
    def _not_too_few(cls, days: int) -> int:
        if 0 < days < _KEPT_DAYS_MIN:
            raise ValueError(f"keep at least {_KEPT_DAYS_MIN} days, or 0 to keep all")
        return days


class Settings(BaseSettings):
    """Everything a person can set."""

    model_config = SettingsConfigDict(
        env_prefix="TRIAGE_", env_nested_delimiter="__", toml_file="triage.toml", extra="forbid"
    )

    azure_devops: AzureDevOps = Field(default_factory=AzureDevOps)
    database: Database = Field(default_factory=Database)
    hook: Hook = Field(default_factory=Hook)
    service_bus: ServiceBus = Field(default_factory=ServiceBus)
    server: Server = Field(default_factory=Server)
    rules: Rules = Field(default_factory=Rules)
    owners: Owners = Field(default_factory=Owners)
    policy: Policy = Field(default_factory=Policy)
    sweep: Sweep = Field(default_factory=Sweep)
    after_renewal: AfterRenewal = Field(default_factory=AfterRenewal)
    watch: Watch = Field(default_factory=Watch)
    expiry: Expiry = Field(default_factory=Expiry)
    history: History = Field(default_factory=History)
    workers: int = Field(default=2, description="Worker processes on this machine.", ge=1, le=64)
    job_seconds_max: float = Field(
        default=900.0, description="A worker whose job takes longer is ended and replaced.", gt=0
    )
    worker_memory_mb: int = Field(
        default=1024, description="A worker that holds more memory is ended and replaced (Linux).", ge=128
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags over environment over the file of secrets over the file."""
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls, secrets_file()),
            TomlConfigSettingsSource(settings_cls, file()),
        )

    @property
    def pages_url(self) -> str:
        """Where our own pages are, for links."""
        return self.server.public_url.rstrip("/") or f"http://{self.server.host}:{self.server.port}"


def load(**flags: Any) -> Settings:
    """Read the settings; flags given as sections win.

    Raises UsageError that names every wrong key and what to write instead.
    """
    try:
        return Settings(**flags)
    except ValidationError as error:
        problems = "\n".join(f"  {_explain(e)}" for e in error.errors(include_input=False, include_url=False))
        raise UsageError(f"The settings (triage.toml or TRIAGE_… variables) are wrong:\n{problems}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file()} or {secrets_file()}: not valid TOML: {error}") from None


def require_organization(settings: Settings) -> None:
    """Raise UsageError unless triage knows which organisation to serve and how to sign in."""
    if not settings.azure_devops.url:
        raise UsageError(
            "azure_devops.url is not set. Name your organisation: "
            "TRIAGE_AZURE_DEVOPS__URL=https://dev.azure.com/<organisation>, or `url` under [azure_devops]; "
            "`triage init` asks for all that triage needs."
        )
    section = settings.azure_devops
    problem = section.problem("azure_devops")
    if not problem and section.writer.configured:
        problem = section.writer.problem("azure_devops.writer")
    if problem:
        raise UsageError(problem)


def file() -> Path:
    """Return where the settings are."""
    return Path(os.environ.get("TRIAGE_CONFIG", "triage.toml"))


def secrets_file() -> Path:
    """Return where the secrets among the settings are: triage.secrets.toml beside triage.toml.

    A file of its own, so that triage.toml may be shown and kept in a repository, and so that this one can
    be a mounted secret.
    """
    return file().with_name(f"{file().stem}.secrets.toml")


def _explain(error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{path}: {error['msg']}"
    near = difflib.get_close_matches(str(error["loc"][-1]), _keys(error["loc"][:-1]), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(_keys(error['loc'][:-1]))}"
    return f"{path}: no such setting{hint}"


def _keys(path: tuple[Any, ...]) -> list[str]:
    model: Any = Settings
    for part in path:
        model = model.model_fields[str(part)].annotation
    return list(model.model_fields)
