"""Have Azure DevOps try a changed connection's credential: where that is wanted, possible and allowed."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlmodel import Session

from triage import health
from triage.db import Health, now, reader
from triage.errors import AccessRefused, Cancel
from triage.match.redact import mask
from triage.safe import visible

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from triage.azdo import Door, Tested
    from triage.domain import Connection, Finding

_PART = "credential test"
_REFUSED_FOR = timedelta(days=1)
# Types whose data source TestConnection is known, by Microsoft's Terraform provider, to sign in with the
# credential. Others have one as well, of which nobody says what it proves.
_TYPES = {"azurerm"}
_SCHEMES = {"serviceprincipal", "workloadidentityfederation"}
# To sign in proves nothing where something else was refused than the sign-in.
_CREDENTIALS = {
    "azure-entra-app",
    "azure-entra-client-certificate",
    "azure-entra-client-secret",
    "azure-workload-identity",
}
_ENTRA = re.compile(r"AADSTS\d+:.*?(?= Trace ID:| Visit | To troubleshoot|$)", re.DOTALL)


def is_proof(opened: Finding, connection: Connection) -> bool:
    """Return whether a test that passes shows that what failed works again."""
    is_testable = connection.type in _TYPES and connection.scheme in _SCHEMES
    return is_testable and opened.match.credential in _CREDENTIALS


def attempt(door: Door, engine: Engine, connection: Connection) -> Tested | None:
    """Return how the test ended, None when triage may not have it done, for a day from the last refusal."""
    with Session(reader(engine)) as session:
        row = session.get(Health, _PART)
    if row is not None and row.state != "ok" and row.checked_at > now() - _REFUSED_FOR:
        return None
    try:
        tested = door.test_connection(connection.project_id, connection.id)
    except AccessRefused as refusal:
        health.keep(engine, _PART, "refused", f"{refusal}")
        return None
    except Cancel:  # this connection has no such test
        return None
    if row is not None:
        health.keep(engine, _PART, "ok")
    return tested


def refusal(engine: Engine) -> str:
    """Return why Azure DevOps tries no credential for triage, "" when it does or was not asked."""
    with Session(reader(engine)) as session:
        row = session.get(Health, _PART)
        return row.detail if row is not None and row.state != "ok" else ""


def forget(engine: Engine) -> None:
    """Forget what was refused: it is not wanted any more."""
    with Session(reader(engine)) as session:
        if session.get(Health, _PART) is None:
            return
    with Session(engine) as session, session.begin():
        row = session.get(Health, _PART)
        if row is not None:
            session.delete(row)


def shown(error: str) -> str:
    """Return what a test that failed was told, without secrets: the part that Entra said, if it said one."""
    text = visible(mask(visible(error)))
    said = _ENTRA.search(text)
    return (said[0] if said else text).strip() or "no reason"
