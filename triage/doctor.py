"""`triage doctor`: every part of a set-up looked at, each with its fix. Writes nothing anywhere."""

from __future__ import annotations

import json
import stat
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import requests
from rich.console import Console
from rich.markup import escape
from sqlalchemy.exc import SQLAlchemyError

from triage import azdo, config, db, hooks, match, owner, renewal, subscribing
from triage.azdo import administration
from triage.azdo.administration import Right
from triage.errors import AccessRefused, JobError, RulePackError, TriageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from triage.azdo import Account, Door
    from triage.azdo.administration import Project
    from triage.azdo.sign_in import SignIn
    from triage.config import Credential, Settings

_SOON_DAYS = 14
_OLD_DAYS = 365  # issuers change their messages
_SKEW_WARNING, _SKEW_ERROR = 30.0, 300.0  # seconds; Entra allows five minutes
_SECRET_LENGTH = 24
_PROJECTS = 10  # whose rights are looked at
_TIMEOUT_SECONDS = 10
_LOCAL = {"127.0.0.1", "localhost", "::1"}

# Security namespaces, as Microsoft's reference names them.
_BUILD = "33344d9c-fc72-4d6f-aba5-fa317101a7e9"
_AREA = "83e28ad4-2d72-4ceb-97b0-c7726d5502c3"
_GIT = "2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87"
_PROJECT = "52d39943-cb85-4d7f-8fa8-c6baac873819"
_ENDPOINTS = "49b48001-ca20-4adc-8111-5b60c903a50c"
_HOOKS = "cb594ebe-87dd-4fc9-ac2c-6a10a4c92046"
_TAGGING = "bb50f182-8e5e-40b8-bc21-e8752a1e7ae2"

# What triage needs: namespace, action, what for.
_TO_READ = (
    (_BUILD, "ViewBuilds", "runs and their logs"),
    (_BUILD, "ViewBuildDefinition", "pipelines"),
    (_ENDPOINTS, "ViewEndpoint", "service connections"),
    (_AREA, "WORK_ITEM_READ", "work items"),
    (_GIT, "GenericRead", "pull requests"),
)
_TO_WRITE = (
    (_AREA, "WORK_ITEM_WRITE", "filing work items"),
    (_TAGGING, "Create", "new tags on work items"),
    (_GIT, "PullRequestContribute", "threads on pull requests"),
)
# Which of the two lets one tag a run is not documented.
_TO_TAG = ((_BUILD, "EditBuildQuality"), (_BUILD, "UpdateBuildInformation"))
_TO_SUBSCRIBE = (_HOOKS, "EditSubscriptions")
# What triage never needs, and what a stolen credential could do with it.
_EXCESS = (
    (_BUILD, "DeleteBuilds", "delete runs"),
    (_BUILD, "EditBuildDefinition", "change pipelines"),
    (_BUILD, "AdministerBuildPermissions", "change who may do what with pipelines"),
    (_GIT, "GenericContribute", "push code"),
    (_GIT, "ForcePush", "rewrite history"),
    (_GIT, "PullRequestBypassPolicy", "complete pull requests against policy"),
    (_GIT, "ManagePermissions", "change who may do what with code"),
    (_ENDPOINTS, "Administer", "change service connections"),
    (_ENDPOINTS, "Create", "create service connections"),
    (_ENDPOINTS, "ViewAuthorization", "see how service connections sign in"),
    (_PROJECT, "GENERIC_WRITE", "change the project"),
    (_PROJECT, "DELETE", "delete the project"),
)


class Level(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    level: Level
    told: str
    fix: str = ""  # the next step; "" when all is well


def ok(name: str, told: str) -> Check:
    """Return a check that found nothing wrong."""
    return Check(name, Level.OK, told)


def warning(name: str, told: str, fix: str) -> Check:
    """Return a check whose finding does not stop triage."""
    return Check(name, Level.WARNING, told, fix)


def error(name: str, told: str, fix: str) -> Check:
    """Return a check whose finding stops triage, or a part of it."""
    return Check(name, Level.ERROR, told, fix)


def run(form: Literal["text", "json"]) -> int:
    """Examine the present settings and print what was found. Returns the exit code."""
    try:
        settings = config.load()
    except TriageError as wrong:
        found = [
            error("settings", str(wrong), "Correct what is named; deploy/README.md lists every setting.")
        ]
    else:
        found = list(examine(settings))
    if form == "json":
        print(json.dumps([asdict(each) for each in found], indent=2))  # noqa: T201 - the command's output
    else:
        show(found)
    return exit_code(found)


def exit_code(found: Sequence[Check]) -> int:
    """Return 0 when all is well, 1 when there are warnings only, 2 when something does not work."""
    levels = {each.level for each in found}
    return 2 if Level.ERROR in levels else int(Level.WARNING in levels)


def show(found: Sequence[Check]) -> None:
    """Print the checks for people."""
    out = Console(highlight=False, soft_wrap=True)
    colours = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}
    for each in found:
        out.print(f"[{colours[each.level]}]{each.level:8}[/]{escape(each.name)}: {escape(each.told)}")
        if each.fix:
            out.print(f"        [dim]fix:[/] {escape(each.fix)}")
    counts = {level: sum(each.level is level for each in found) for level in Level}
    out.print(f"{counts[Level.OK]} fine, {counts[Level.WARNING]} warnings, {counts[Level.ERROR]} errors.")


def examine(settings: Settings) -> Iterator[Check]:
    """Look at everything, the settings first and what lies outside last."""
    yield from _files(settings)
    yield from _hook_secret(settings)
    yield from _rule_pack(settings)
    yield from _owners(settings)
    yield from _database(settings)
    yield from _queue(settings)
    yield from _public_url(settings)
    yield from _azure_devops(settings)


def _files(settings: Settings) -> Iterator[Check]:
    file, secrets = config.file(), config.secrets_file()
    present = [each for each in (file, secrets) if each.is_file()]
    open_ones = [each for each in present if _read_by_others(each) and (each == secrets or _has_secret(each))]
    for each in open_ones:
        yield error("settings", f"{each} holds secrets and other users may read it.", f"chmod 600 {each}")
    if not open_ones:
        source = " and ".join(str(each) for each in present) or "environment variables alone"
        yield ok("settings", f"read from {source}; {settings.workers} workers.")


def _read_by_others(file: Path) -> bool:
    return bool(file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _has_secret(file: Path) -> bool:
    import tomllib  # noqa: PLC0415 - only here

    names = {"token", "client_secret", "certificate_password", "password", "header_value"}

    def within(table: object) -> bool:
        return isinstance(table, dict) and any(
            (key in names and bool(value)) or within(value) for key, value in table.items()
        )

    return within(tomllib.loads(file.read_text(encoding="utf-8")))


def _hook_secret(settings: Settings) -> Iterator[Check]:
    hook, name = settings.hook, "hook secret"
    given = {"hook.password": hook.password, "hook.header_value": hook.header_value}
    secrets = {key: value.get_secret_value() for key, value in given.items() if value is not None}
    fix = "Set a random one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))', then "
    fix += "`triage hooks repair`."
    if not any(secrets.values()):
        yield error(name, "nothing protects the web hook: triage serve will not start.", fix)
        return
    weak = [key for key, value in secrets.items() if _is_weak(value, hook.username)]
    if weak:
        yield warning(name, f"{weak[0]} is short or easy to guess.", fix)
    elif "hook.password" not in secrets:
        yield warning(
            name,
            "only a secret header protects the web hook; who may view the subscription can read it.",
            "Set hook.password instead: Azure DevOps masks it.",
        )
    else:
        yield ok(name, "long and random enough.")


def _is_weak(secret: str, username: str) -> bool:
    return (
        len(secret) < _SECRET_LENGTH
        or len(set(secret)) < _SECRET_LENGTH // 2
        or username.lower() == secret.lower()
    )


def _rule_pack(settings: Settings) -> Iterator[Check]:
    folder, name = settings.rules.path, "rule pack"
    try:
        match.load_pack(folder)
        renewal.load(folder)
    except (RulePackError, TriageError) as wrong:
        yield error(name, str(wrong), "triage rules check")
        return
    place = folder or match.shipped_rules()
    newest = max((each.stat().st_mtime for each in place.rglob("*.toml")), default=0.0)
    days = int((datetime.now(UTC).timestamp() - newest) // 86400)
    told = f"{match.count(folder)} rules from {'rules.path' if folder else 'triage itself'}"
    if days > _OLD_DAYS:
        yield warning(
            name,
            f"{told}, the newest {days} days old: issuers change their messages.",
            "Update triage, or the pack that rules.path names.",
        )
    else:
        yield ok(name, f"{told}, in order.")


def _owners(settings: Settings) -> Iterator[Check]:
    section, name = settings.owners, "owners"
    if section.file is not None:
        try:
            entries = len(owner.load_owners(section.file).entries)
        except TriageError as wrong:
            yield error(name, str(wrong), f"Correct {section.file}; deploy/README.md shows entries.")
            return
        yield ok(name, f"{entries} entries in {section.file}.")
    elif section.default_assignee or section.default_team:
        yield ok(name, f"nobody else's go to {section.default_assignee or section.default_team}.")
    else:
        yield warning(
            name,
            "no owners file and no default: what no connection tells an owner of is assigned to nobody.",
            "Set owners.default_team or owners.default_assignee, or write owners.file.",
        )


def _database(settings: Settings) -> Iterator[Check]:
    name, url = "database", settings.database.url
    try:
        engine = db.open_engine(url)
    except TriageError as wrong:
        yield error(name, str(wrong), "Set database.url.")
        return
    where = engine.url.render_as_string(hide_password=True)
    if _is_missing(engine.url.database, engine.dialect.name):
        yield warning(name, f"{where} does not exist yet.", "triage serve creates it; its folder must exist.")
        return
    try:
        present, newest = db.revisions(engine)
    except SQLAlchemyError as wrong:
        cause = str(getattr(wrong, "orig", None) or wrong).split("\n", 1)[0]
        yield error(name, f"{where} cannot be reached: {cause}", "Check database.url and that it is running.")
        return
    finally:
        engine.dispose()
    if present is None:
        yield warning(name, f"{where} is empty.", "triage serve makes its tables.")
    elif present != newest:
        yield warning(
            name,
            f"{where} is at revision {present}; this triage knows {newest}.",
            "Start triage serve, which brings it up to date; update triage when the database is newer.",
        )
    else:
        one = "; one machine only" if engine.dialect.name == "sqlite" else ""
        yield ok(name, f"{where} ({engine.dialect.name}{one}) is reached and up to date.")


def _is_missing(database: str | None, kind: str) -> bool:
    """Return True for a file of SQLite that looking at it would create."""
    from pathlib import Path  # noqa: PLC0415 - only here

    return kind == "sqlite" and database not in {None, "", ":memory:"} and not Path(str(database)).exists()


def _queue(settings: Settings) -> Iterator[Check]:
    section = getattr(settings, "service_bus", None)
    queue = str(getattr(section, "queue", "") or "")
    if queue:
        yield ok("queue", f"events come by the Service Bus queue {queue}.")
    else:
        yield ok("queue", "no Service Bus: events come by web hook.")


def _public_url(settings: Settings) -> Iterator[Check]:
    name, url = "public address", settings.server.public_url.rstrip("/")
    parts = urlsplit(url)
    if not parts.hostname:
        yield warning(
            name,
            "server.public_url is not set: links in work items lead to this machine only.",
            "Set server.public_url to the https address of triage.",
        )
        return
    if parts.scheme != "https" and parts.hostname not in _LOCAL:
        yield error(
            name, f"{url} is not https: Azure DevOps sends no password there.", "Put a TLS proxy in front."
        )
        return
    try:
        # Without a password it must turn us away, which shows that it is triage that answers.
        answer = requests.post(
            f"{url}{hooks.PATH}", data=b"", timeout=_TIMEOUT_SECONDS, allow_redirects=False
        )
    except requests.RequestException as wrong:
        cause = type(wrong).__name__
        yield warning(
            name,
            f"{url} does not answer here ({cause}).",
            "Start triage serve; check DNS, certificate and proxy. Azure DevOps must reach it from outside.",
        )
        return
    if answer.status_code == requests.codes.unauthorized and "triage" in answer.headers.get(
        "WWW-Authenticate", ""
    ):
        yield ok(name, f"triage answers at {url}{hooks.PATH}.")
    else:
        yield error(
            name,
            f"{url}{hooks.PATH} answers {answer.status_code}, not as triage does.",
            "Let the proxy pass /hooks/azure-devops on to triage as it is.",
        )


def _azure_devops(settings: Settings) -> Iterator[Check]:
    section = settings.azure_devops
    try:
        config.require_organization(settings)
        account = azdo.account(section)
        account.door()
    except TriageError as wrong:
        yield error("Azure DevOps", str(wrong), "triage init asks for all of it.")
        return
    yield from _expiry("credential", section, account.reader)
    if account.writer:
        yield from _expiry("writing credential", section.writer, account.writer)
    reachable = []
    for name, sign_in in (("identity", account.reader), ("writing identity", account.writer)):
        if sign_in:
            checks = list(
                _identity(name, azdo.connect(account.url, sign_in, extra_hosts=account.extra_hosts))
            )
            reachable.append(checks[0].level is not Level.ERROR)
            yield from checks
    if all(reachable):
        yield from _guarded("rights", lambda: _rights_and_hooks(settings, account))


def _guarded(name: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from look()
    except TriageError as wrong:
        yield error(name, str(wrong), "Try again; if it stays, check the credential's rights.")


def _expiry(name: str, section: Credential, sign_in: SignIn) -> Iterator[Check]:
    kind = section.auth
    if kind == "token":
        token = section.token.get_secret_value() if section.token else ""
        kind_told = (
            "an Entra token, which lasts an hour" if token.startswith("eyJ") else "a personal access token"
        )
    else:
        kind_told = f"Entra, by {kind}"
    if section.auth in {"managed-identity", "workload-identity", "azure-cli"}:
        yield ok(name, f"{kind_told}: nothing of it expires.")
        return
    try:
        end = _certificate_end(section) if section.certificate_file else section.expires_on
    except (OSError, ValueError) as wrong:
        yield error(
            name, f"{section.certificate_file} cannot be read: {wrong}", "Check the certificate's file."
        )
        return
    if end is None:
        yield warning(
            name,
            f"{kind_told}; nobody tells when it expires.",
            f"Set {sign_in.setting}.expires_on to that day, or use a managed identity, which never expires.",
        )
        return
    days = (end - datetime.now(UTC).date()).days
    fix = f"Renew it and set {sign_in.setting} anew."
    if days < 0:
        yield error(name, f"{kind_told}; it expired on {end}.", fix)
    elif days <= _SOON_DAYS:
        yield warning(name, f"{kind_told}; it expires on {end}, in {days} days.", fix)
    else:
        yield ok(name, f"{kind_told}; it expires on {end}, in {days} days.")


def _certificate_end(section: Credential) -> date:
    from cryptography import x509  # noqa: PLC0415 - few set-ups have one
    from cryptography.hazmat.primitives.serialization import pkcs12  # noqa: PLC0415

    data = section.certificate_file.read_bytes() if section.certificate_file else b""
    if b"-----BEGIN CERTIFICATE-----" in data:
        return x509.load_pem_x509_certificate(data).not_valid_after_utc.date()
    password = section.certificate_password
    _, found, _ = pkcs12.load_key_and_certificates(
        data, password.get_secret_value().encode() if password else None
    )
    if found is None:
        raise ValueError("it holds no certificate")
    return found.not_valid_after_utc.date()


def _identity(name: str, door: Door) -> Iterator[Check]:
    try:
        caller = administration.caller(door)
    except AccessRefused as refused:
        yield error(name, str(refused), "Renew or correct the credential.")
        return
    except JobError as away:
        yield error(
            name,
            f"{door.organization_url}: {away}",
            "Check azure_devops.url, the network and any proxy (HTTPS_PROXY).",
        )
        return
    yield ok(name, f"{caller.name or caller.unique_name or caller.id} in {door.organization_url}.")
    if caller.server_time is None:
        return
    skew = (datetime.now(UTC) - caller.server_time).total_seconds()
    told = f"this machine's clock is {abs(skew):.0f} seconds {'ahead of' if skew > 0 else 'behind'} Azure DevOps'."
    if abs(skew) > _SKEW_ERROR:
        yield error(
            "clock", told, "Synchronise it (NTP): Entra refuses assertions that are off by five minutes."
        )
    elif abs(skew) > _SKEW_WARNING:
        yield warning("clock", told, "Synchronise it (NTP).")
    else:
        yield ok("clock", "agrees with Azure DevOps'.")


def _rights_and_hooks(settings: Settings, account: Account) -> Iterator[Check]:
    reader = account.door()
    projects = administration.projects(reader)
    if not projects:
        yield error(
            "projects",
            "the credential sees no project.",
            "Add the identity to the projects that triage shall serve, as Reader at least.",
        )
        return
    yield ok("projects", f"{len(projects)} to be seen.")
    yield from _reads(settings, reader, projects[0])
    looked_at = projects[:_PROJECTS]
    yield from _guarded("rights", lambda: _rights(account, looked_at))
    yield from _guarded("hooks", lambda: _subscriptions(settings, reader, projects))


def _reads(settings: Settings, door: Door, project: Project) -> Iterator[Check]:
    """Try what triage reads, and with a token also what it has no business with."""
    failed = [
        what
        for what in ("builds", "service connections", "work item types", "repositories", "identities")
        if not _may(door, what, project)
    ]
    if failed:
        yield error(
            "reading",
            f"in {project.name} not allowed: {', '.join(failed)}.",
            "Give the token the scopes, and the identity the rights, that deploy/README.md lists.",
        )
    else:
        yield ok("reading", f"everything that triage reads, tried in {project.name}.")
    if settings.azure_devops.auth != "token":
        return  # every member may list these; a bearer token has no scopes to be narrower
    excess = [what for what in ("variable groups", "agent pools") if _may(door, what, project)]
    if excess:
        yield warning(
            "token scopes",
            f"the token also reads {' and '.join(excess)}: it has more scopes than triage needs.",
            "Make a token with the scopes of deploy/README.md and no others.",
        )
    else:
        yield ok("token scopes", "none found beyond what triage needs.")


def _may(door: Door, what: str, project: Project) -> bool:
    try:
        administration.may_read(door, what, project)
    except AccessRefused:
        return False
    return True


def _rights(account: Account, projects: Sequence[Project]) -> Iterator[Check]:
    """Ask the service what the identities may do. A token's scopes may narrow it, never widen it."""
    reader = azdo.connect(account.url, account.reader, extra_hosts=account.extra_hosts)
    writer = reader
    if account.writer:
        writer = azdo.connect(account.url, account.writer, extra_hosts=account.extra_hosts)
    tokens = {project: _tokens(reader, project) for project in projects}
    may_read = administration.evaluate(reader, _all(tokens))
    may_write = may_read if writer is reader else administration.evaluate(writer, _all(tokens))
    missing: list[tuple[str, str]] = []
    for project in projects:
        place = tokens[project]
        missing += _missing(_TO_READ, place, may_read, project)
        missing += _missing(_TO_WRITE, place, may_write, project)
        tag = [may_write.get(Right(space, place[space], action)) for space, action in _TO_TAG]
        if not any(tag):
            missing.append((project.name, "Edit build quality or Update build information (tags on runs)"))
    yield from _told_missing(missing, len(projects))
    yield from _told_excess(tokens, may_read, may_write, separate=account.writer is not None)
    space, action = _TO_SUBSCRIBE
    unable = [p.name for p in projects if not may_read.get(Right(space, tokens[p][space], action))]
    if unable:
        yield warning(
            "right to subscribe",
            f"the identity may not edit service hooks in {_some(unable)}.",
            "Grant it Edit Subscriptions there, or create the subscriptions by hand (deploy/README.md).",
        )
    else:
        yield ok("right to subscribe", "the identity may edit service hooks.")


def _tokens(door: Door, project: Project) -> dict[str, str]:
    """Return what each namespace calls a project."""
    return {
        _BUILD: project.id,
        _AREA: administration.area_token(door, project),
        _GIT: f"repoV2/{project.id}",
        _PROJECT: f"$PROJECT:vstfs:///Classification/TeamProject/{project.id}",
        _ENDPOINTS: f"endpoints/{project.id}",
        _HOOKS: f"PublisherSecurity/{project.id}",
        _TAGGING: f"/{project.id}",
    }


def _all(tokens: dict[Project, dict[str, str]]) -> list[Right]:
    actions = [(space, action) for space, action, _ in (*_TO_READ, *_TO_WRITE, *_EXCESS)]
    actions += [*_TO_TAG, _TO_SUBSCRIBE]
    return [Right(space, place[space], action) for place in tokens.values() for space, action in actions]


def _missing(
    needed: Sequence[tuple[str, str, str]],
    place: dict[str, str],
    may: dict[Right, bool],
    project: Project,
) -> list[tuple[str, str]]:
    return [
        (project.name, f"{action} ({what})")
        for space, action, what in needed
        if may.get(Right(space, place[space], action)) is False
    ]


def _told_missing(missing: Sequence[tuple[str, str]], looked_at: int) -> Iterator[Check]:
    by_right: dict[str, list[str]] = {}
    for project, right in missing:
        by_right.setdefault(right, []).append(project)
    for right, names in by_right.items():
        yield error(
            "missing right",
            f"{right} in {_some(names)}.",
            "Grant it to the identity in Project settings, Permissions (deploy/README.md lists the groups).",
        )
    if not missing:
        yield ok("rights", f"all that triage needs, in {looked_at} projects looked at.")


def _told_excess(
    tokens: dict[Project, dict[str, str]],
    may_read: dict[Right, bool],
    may_write: dict[Right, bool],
    *,
    separate: bool,
) -> Iterator[Check]:
    found: dict[str, list[str]] = {}
    for project, place in tokens.items():
        for space, action, what in _EXCESS:
            right = Right(space, place[space], action)
            if may_read.get(right) or may_write.get(right):
                found.setdefault(f"{action}: it can {what}", []).append(project.name)
        for space, action, what in _TO_WRITE if separate else ():
            if may_read.get(Right(space, place[space], action)):
                found.setdefault(f"{action} of the reading identity ({what})", []).append(project.name)
    for told, names in found.items():
        yield warning(
            "excess right",
            f"{told}, in {_some(names)}.",
            "Take it away: who steals the credential has it, too.",
        )
    if not found:
        yield ok("excess rights", "none of those that would do harm.")


def _subscriptions(settings: Settings, door: Door, projects: Sequence[Project]) -> Iterator[Check]:
    if getattr(getattr(settings, "service_bus", None), "queue", ""):
        choice = subscribing.Choice(
            service_bus=True, send_connection_string="Endpoint=sb://-;SharedAccessKey=-"
        )
    else:
        choice = subscribing.Choice()
    target = subscribing.target(settings, choice)
    served = hooks.subscribed(door, target, projects)
    if not served:
        yield warning("hooks", f"no project sends to {target.name}.", "triage hooks install --all-projects")
        return
    for each in (one for one in hooks.status(door, hooks.wanted(served, target)) if not one.ok):
        yield error("hooks", f"{each.project}, {each.event}: {each.problem}.", each.fix)
    without = [project.name for project in projects if project not in served]
    if without:
        yield warning(
            "hooks",
            f"{len(without)} projects have none: {_some(without)}.",
            "triage hooks install --all-projects, or --project NAME; otherwise triage does not serve them.",
        )
    else:
        yield ok("hooks", f"{len(served)} projects send to {target.name}.")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"  # noqa: PLR2004
