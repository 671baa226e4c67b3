"""`triage init`: asks for what triage needs, writes it down, and tests it.

What is no secret goes to triage.toml, which may be shown and kept in a repository. Secrets go to
triage.secrets.toml beside it, which only its owner may read and which can be replaced by a mounted
secret. A secret that is in the environment already stays there and is written nowhere. None is a flag:
a process list would show it.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import click

from triage import config, doctor, subscribing
from triage.azdo import urls
from triage.errors import TriageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

AUTHS = ("managed-identity", "workload-identity", "service-principal", "token", "azure-cli")
_HEAD = (
    "# Settings of triage; deploy/README.md explains each. Secrets are in {secrets}, or in the environment.\n"
)
_SECRETS_HEAD = "# Secrets of triage. Keep this file out of repositories and readable by triage alone.\n"


@dataclass
class Given:
    """What came as flags; None was not given."""

    organization: str | None = None
    auth: str | None = None
    tenant_id: str | None = None
    client_id: str | None = None
    certificate_file: str | None = None
    expires_on: str | None = None
    public_url: str | None = None
    database_url: str | None = None
    default_team: str | None = None
    projects: tuple[str, ...] = ()
    all_projects: bool = False
    force: bool = False
    no_input: bool = False


@dataclass
class _Tables:
    """What is to be written: tables of plain settings, and of secrets."""

    plain: dict[str, dict[str, Any]] = field(default_factory=dict)
    secret: dict[str, dict[str, Any]] = field(default_factory=dict)

    def put(self, table: str, key: str, value: Any) -> None:
        """Keep a setting unless it is empty."""
        if value not in {None, ""}:
            self.plain.setdefault(table, {})[key] = value


def run(given: Given) -> int:
    """Ask, write, test, offer to install the hooks. Returns 0 when nothing stops triage, else 2."""
    file, secret_file = config.file(), config.secrets_file()
    for each in (file, secret_file):
        if each.exists() and not given.force:
            raise UsageError(f"{each} exists already. Change it there, or write it anew with --force.")
    tables = _ask(given)
    _write(file, _HEAD.format(secrets=secret_file.name) + _toml(tables.plain))
    written = [file]
    if tables.secret:
        _write(secret_file, _SECRETS_HEAD + _toml(tables.secret))
        written.append(secret_file)
    elif given.force:
        secret_file.unlink(missing_ok=True)
    click.echo(f"Wrote {' and '.join(str(each) for each in written)}. Testing:\n")
    settings = config.load()
    found = list(doctor.examine(settings))
    doctor.show(found)
    broken = any(each.level is doctor.Level.ERROR for each in found)
    hooks = "declined" if broken else _offer_hooks(settings, given)
    _next_steps(settings, broken=broken, subscribed=hooks == "installed")
    return 2 if broken or hooks == "failed" else 0


def _ask(given: Given) -> _Tables:
    tables, asking = _Tables(), not given.no_input
    url = _answer(
        given.organization,
        "The organisation's address, e.g. https://dev.azure.com/contoso",
        "--organization",
        asking=asking,
        check=lambda text: urls.organization(text)[0],
    )
    tables.put("azure_devops", "url", url)
    if asking and given.auth is None:
        click.echo("In Azure use a managed identity: there is no secret that could expire.")
    _ask_credential(tables, "azure_devops", given, asking=asking)
    if asking and click.confirm(
        "A second credential that alone writes (the first then only reads)?", default=False
    ):
        _ask_credential(tables, "azure_devops.writer", Given(), asking=True)
    public = _answer(
        given.public_url,
        "The https address at which Azure DevOps reaches triage (empty: later)",
        "--public-url",
        asking=asking,
        default="",
        check=_public,
    )
    tables.put("server", "public_url", public)
    database = _answer(
        given.database_url,
        "The database: sqlite:///file, or postgresql://user@host/name",
        "--database-url",
        asking=asking,
        default="sqlite:///triage.db",
    )
    # An address with a password in it is a secret as a whole.
    if urlsplit(database).password:
        _keep_secret(tables, "database", "url", database)
    else:
        tables.put("database", "url", database)
    team = _answer(
        given.default_team,
        "The team that gets what nobody else owns (empty: none)",
        "--default-team",
        asking=asking,
        default="",
    )
    tables.put("owners", "default_team", team)
    if not _in_environment("hook", "password"):
        _keep_secret(tables, "hook", "password", secrets.token_urlsafe(32))
    return tables


def _ask_credential(tables: _Tables, table: str, given: Given, *, asking: bool) -> None:
    auth = _answer(
        given.auth,
        f"How triage signs in ({', '.join(AUTHS)})",
        "--auth",
        asking=asking,
        default="managed-identity" if asking else None,
        check=_auth,
    )
    tables.put(table, "auth", auth)
    if auth == "token":
        _ask_secret(
            tables, table, "token", "The personal access token (scopes: deploy/README.md)", asking=asking
        )
    if auth == "service-principal":
        tenant = _answer(given.tenant_id, "The Entra tenant", "--tenant-id", asking=asking)
        tables.put(table, "tenant_id", tenant)
    if auth in {"service-principal", "managed-identity"}:
        needed = auth == "service-principal"
        client = _answer(
            given.client_id,
            "The application (client) id" if needed else "The client id, if user-assigned (empty: none)",
            "--client-id",
            asking=asking,
            default=None if needed else "",
        )
        tables.put(table, "client_id", client)
    if auth == "service-principal":
        file = _answer(
            given.certificate_file,
            "The file of its certificate and key (empty: it has a secret)",
            "--certificate-file",
            asking=asking,
            default="",
        )
        tables.put(table, "certificate_file", file)
        if not file:
            _ask_secret(tables, table, "client_secret", "The client secret's value", asking=asking)
    if auth == "token" or (auth == "service-principal" and not file):
        end = _answer(
            given.expires_on,
            "The day it expires, as 2027-01-31 (empty: unknown)",
            "--expires-on",
            asking=asking,
            default="",
            check=_day,
        )
        tables.put(table, "expires_on", date.fromisoformat(end) if end else None)


def _answer(
    flag: str | None,
    question: str,
    name: str,
    *,
    asking: bool,
    default: str | None = None,
    check: Callable[[str], str] = str.strip,
) -> str:
    """Return a flag's value, or what a person answers. Raises UsageError when there is neither."""
    if flag is not None:
        return check(flag)
    if not asking:
        if default is None:
            raise UsageError(f"{name} is missing; without --no-input triage asks for it.")
        return default

    def checked(text: str) -> str:
        try:
            return check(text)
        except UsageError as wrong:
            raise click.BadParameter(str(wrong)) from None

    answer: str = _prompt(
        name, question, default=default, value_proc=checked, show_default=bool(default), err=True
    )
    return answer


def _prompt(name: str, question: str, **more: Any) -> Any:
    """Ask a person. Raises UsageError when there is nobody, such as in a script."""
    try:
        return click.prompt(question, **more)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise UsageError(
            f"{name} is missing, and nobody answers: run triage init in a terminal, or give everything as "
            "flags (triage init --help)."
        ) from None


def _ask_secret(tables: _Tables, table: str, key: str, question: str, *, asking: bool) -> None:
    if _in_environment(table, key):
        return
    name = _variable(table, key)
    if not asking:
        raise UsageError(f"{name} is not set; without --no-input triage asks for it.")
    _keep_secret(tables, table, key, _prompt(name, question, hide_input=True, err=True).strip())


def _keep_secret(tables: _Tables, table: str, key: str, value: str) -> None:
    tables.secret.setdefault(table, {})[key] = value


def _in_environment(table: str, key: str) -> bool:
    return bool(os.environ.get(_variable(table, key)))


def _variable(table: str, key: str) -> str:
    return f"TRIAGE_{table.replace('.', '__')}__{key}".upper()


def _auth(text: str) -> str:
    if text.strip() not in AUTHS:
        raise UsageError(f"{text!r} is none of {', '.join(AUTHS)}.")
    return text.strip()


def _public(text: str) -> str:
    url = text.strip().rstrip("/")
    parts = urlsplit(url)
    local = parts.hostname in {"127.0.0.1", "localhost", "::1"}
    if url and (not parts.hostname or (parts.scheme != "https" and not local)):
        raise UsageError(f"{text!r} is no https address; it looks like https://triage.contoso.example")
    return url


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text.strip()).isoformat() if text.strip() else ""
    except ValueError:
        raise UsageError(f"{text!r} is no day; it looks like 2027-01-31.") from None


def _toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    lines: list[str] = []
    for name, table in tables.items():
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _write(file: Path, text: str) -> None:
    """Write a file that nobody else may read, whole or not at all."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with os.fdopen(
            os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as opened:
            opened.write(text)
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"{file} cannot be written: {error.strerror}; check its folder.") from None


def _offer_hooks(settings: config.Settings, given: Given) -> Literal["installed", "declined", "failed"]:
    """Install the hooks when a person wants it."""
    choice = subscribing.Choice(projects=given.projects, all_projects=given.all_projects)
    if not (choice.projects or choice.all_projects):
        if given.no_input or not settings.server.public_url:
            return "declined"
        if not click.confirm("\nInstall the service hooks now?", default=True, err=True):
            return "declined"
        named = click.prompt("Projects, separated by commas, or all", default="all", err=True)
        names = tuple(name.strip() for name in named.split(",") if name.strip())
        everything = names == ("all",)
        choice = subscribing.Choice(projects=() if everything else names, all_projects=everything)
    try:
        subscribing.install(settings, choice)
    except TriageError as wrong:
        click.echo(f"The hooks are not installed: {wrong}", err=True)
        return "failed"
    return "installed"


def _next_steps(settings: config.Settings, *, broken: bool, subscribed: bool) -> None:
    steps = []
    if broken:
        steps.append("mend what is named above, then: triage doctor")
    steps.append("try it on a failed run, nothing is written: triage explain RUN_URL")
    if not settings.server.public_url:
        steps.append("put a TLS proxy in front of triage and set server.public_url")
    steps.append("see which credentials end soon, nothing is written: triage connections expiring")
    steps.append("start it: triage serve")
    if not subscribed:
        steps.append("tell Azure DevOps: triage hooks install --all-projects")
    click.echo("\nNext:")
    for number, step in enumerate(steps, 1):
        click.echo(f"  {number}. {step}")
    sys.stdout.flush()
