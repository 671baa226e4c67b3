"""What the passwords and certificates of a connection's application say about its renewal. Pure.

Names no secret: neither a value nor the hint that Entra keeps of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from triage.domain import Verdict
from triage.safe import words

if TYPE_CHECKING:
    from triage.azdo.graph import Application, Secret
    from triage.domain import Connection, Match, Run

OF_ENTRA = {"serviceprincipal", "workloadidentityfederation"}  # schemes that sign in as an application
# What a message must be about for "Entra's own is valid" to say that the connection holds another one.
_SIGNING_IN = {"azure-entra-client-secret", "azure-entra-client-certificate", "azure-container-registry"}
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Registration:
    """A connection's application as Entra knows it at the time of a finding."""

    application: Application | None  # None: there is none
    is_certain: bool = False  # the tenant that was asked is the connection's


def told(connection: Connection, match: Match, run: Run, registered: Registration) -> str:
    """Return what that means for the renewal, Markdown; "" when it says nothing."""
    if registered.application is None:
        return _deleted(connection, is_certain=registered.is_certain)
    if connection.scheme != "serviceprincipal":
        return ""
    kind, name = "password", "client secret"
    if connection.authentication == "spncertificate":
        kind, name = "key", "certificate"
    held = [each for each in registered.application.secrets if each.kind == kind]
    if not held:
        return _none(connection, name, len(registered.application.secrets))
    at = run.finished_at or datetime.now(UTC)
    valid = [each for each in held if each.ends_at > at]
    if not valid:
        return _ended(connection, name, held)
    refused = match.verdict in {Verdict.EXPIRED, Verdict.REVOKED, Verdict.REJECTED}
    return _another(connection, match, name, held, valid, at) if _signs_in(match) and refused else ""


def _signs_in(match: Match) -> bool:
    return match.credential in _SIGNING_IN


def _deleted(connection: Connection, *, is_certain: bool) -> str:
    app = words(connection.parameters.get("serviceprincipalid", ""))
    restore = (
        "renewing is of no use: within 30 days of the deletion restore it (Entra, *App registrations*, "
        "*Deleted applications*), later create the connection anew."
    )
    if is_certain:
        return f"Entra has no application {app} in the connection's tenant: it was deleted, and {restore}"
    return (
        f"Entra shows triage no application {app}: it was deleted, unless the connection belongs to another "
        f"tenant than triage. If it was, {restore}"
    )


def _none(connection: Connection, name: str, others: int) -> str:
    beside = f", only {others} of another kind" if others else ""
    return (
        f"The connection signs in with a {name}, but its application has none in Entra{beside}: somebody has "
        f"removed it. {_make(connection, name)}"
    )


def _ended(connection: Connection, name: str, held: list[Secret]) -> str:
    last = max(each.ends_at for each in held)
    what = {1: f"The only {name}", 2: f"Both {name}s"}.get(len(held), f"All {len(held)} {name}s")
    since = f"ended on {last:%Y-%m-%d}" if len(held) == 1 else f"have ended, the last on {last:%Y-%m-%d}"
    return f"{what} of its application in Entra {since}. {_make(connection, name)}"


def _another(
    connection: Connection,
    match: Match,
    name: str,
    held: list[Secret],
    valid: list[Secret],
    at: datetime,
) -> str:
    newest = max(valid, key=_age)
    is_last = newest is max(held, key=_age)  # one that was made later may have ended sooner
    which = "an older one" if match.verdict is Verdict.EXPIRED and is_last else "another one"
    those = f"has {len(held)} {name}s, and the newest{'' if is_last else ' that has not ended'}"
    if len(held) == 1:
        those = f"has one {name}, which"
    fact = (
        f"In Entra its application {those} is valid until {newest.ends_at:%Y-%m-%d}: the connection holds "
        f"{which}."
    )
    begun = ""
    if newest.starts_at is not None and newest.starts_at > at:
        begun = " It was made after this run failed, so ask whether somebody is at the renewal already."
    if connection.creation_mode == "automatic":
        return (
            f"{fact}{begun} Azure DevOps makes the {name} of this connection itself, so what is made in "
            "Entra does not help: follow the steps."
        )
    value = "its PEM with the private key" if name == "certificate" else "its value"
    shown = "" if name == "certificate" else ", which Entra shows only once"
    return (
        f"{fact}{begun} Nothing has to be created if somebody still has {value}{shown}: put that into the "
        f"connection. Otherwise add a new {name} and put that in."
    )


def _age(secret: Secret) -> tuple[datetime, datetime]:
    """Return what to compare secrets by, the newest last."""
    return secret.starts_at or _LONG_AGO, secret.ends_at


def _make(connection: Connection, name: str) -> str:
    if connection.creation_mode == "automatic":
        return "Let Azure DevOps make a new one, as the steps say."
    return f"Add a new {name} to the application and put it into the connection, as the steps say."
