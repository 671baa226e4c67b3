"""What can be told without Azure DevOps: settings, secrets, rules, owners, database, public address."""

from __future__ import annotations

import stat
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from sqlalchemy.exc import SQLAlchemyError

from triage import config, db, hooks, match, owner, renewal, trying
from triage.doctor.check import error, ok, warning
from triage.errors import TriageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triage.config import Settings
    from triage.doctor.check import Check

_OLD_DAYS = 365  # issuers change their messages
_SECRET_LENGTH = 24
_TIMEOUT_SECONDS = 10
_DEAD_MAX = 100  # that are counted
_LOCAL = {"127.0.0.1", "localhost", "::1"}


def examine(settings: Settings) -> Iterator[Check]:
    """Look at the settings first and at what answers on the network last."""
    yield from _files(settings)
    yield from _hook_secret(settings)
    yield from _rule_pack(settings)
    yield from _owners(settings)
    yield from _database(settings)
    yield from _credential_test(settings)
    yield from _queue(settings)
    yield from _public_url(settings)


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
    names = {
        "token",
        "client_secret",
        "certificate_password",
        "password",
        "header_value",
        "connection_string",
    }

    def within(table: object) -> bool:
        return isinstance(table, dict) and any(
            (key in names and bool(value)) or within(value) for key, value in table.items()
        )

    return within(tomllib.loads(file.read_text(encoding="utf-8")))


def _hook_secret(settings: Settings) -> Iterator[Check]:
    hook, name = settings.hook, "hook secret"
    given = {"hook.password": hook.password, "hook.header_value": hook.header_value}
    secrets = {key: value.get_secret_value() for key, value in given.items() if value is not None}
    fix = "Set hook.password (TRIAGE_HOOK__PASSWORD) to what this prints, then `triage hooks repair`: "
    fix += "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
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
    except TriageError as wrong:
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
    return kind == "sqlite" and database not in {None, "", ":memory:"} and not Path(str(database)).exists()


def _credential_test(settings: Settings) -> Iterator[Check]:
    """Tell what came of the last try; none is made here."""
    if not settings.after_renewal.test_credential:
        return
    name = "credential test"
    try:
        engine = db.open_engine(settings.database.url)
    except TriageError:
        return  # told of the database
    try:
        if _is_missing(engine.url.database, engine.dialect.name) or None in db.revisions(engine):
            return
        refused = trying.refusal(engine)
    except SQLAlchemyError:
        return
    finally:
        engine.dispose()
    if refused:
        yield warning(
            name,
            f"Azure DevOps does not try the credentials of changed connections for triage: {refused}",
            "Make the identity that writes User of the connections (a token needs Service connections: "
            "Read & query), or unset after_renewal.test_credential. triage tries again after a day.",
        )
    else:
        yield ok(name, "nothing was refused so far.")


def _queue(settings: Settings) -> Iterator[Check]:
    from triage.intake.bus import dead_letters, is_used, require_usable  # noqa: PLC0415 - few have one

    name, bus = "queue", settings.service_bus
    if not is_used(bus):
        yield ok(name, "no Service Bus: events come by web hook.")
        return
    try:
        require_usable(settings)
        dead = dead_letters.count(settings, limit=_DEAD_MAX)
    except TriageError as wrong:
        yield error(name, str(wrong), "Correct what is named under service_bus.")
        return
    if dead:
        yield warning(
            name,
            f"the queue {bus.queue} has dead letters: {dead if dead < _DEAD_MAX else f'{dead} or more'}.",
            "triage bus dead-letters list says why; replay puts them on the queue again.",
        )
    else:
        yield ok(name, f"the Service Bus queue {bus.queue} is reached and has no dead letters.")


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
