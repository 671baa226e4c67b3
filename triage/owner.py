"""6 own: whose connection it is, and how we know. Never from the text of a log."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from triage.domain import Owner, OwnerMethod
from triage.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from triage.azdo import Door
    from triage.domain import Attribution, Connection, Identity, Run

_MAIL = re.compile(r"^[^@\s]+@[^@\s]+\.[^@\s]+$")
# Microsoft.VisualStudio.Services.TFS, which made or changed automatic connections itself.
_SYSTEM = "00000002-0000-8888-8000-000000000000"
_DID = {
    OwnerMethod.ADMINISTRATOR: "administers it",
    OwnerMethod.MODIFIED_BY: "last changed it",
    OwnerMethod.CREATED_BY: "created it",
    OwnerMethod.REQUESTER: "asked for this run",
}
_SERVICE_DESCRIPTORS = ("svc.", "s2s.", "aadsp.", "vssgp.", "aadgp.")


@dataclass(frozen=True)
class Entry:
    """One [[owner]] of the owners file: conditions, then who it is."""

    connection: str = ""  # GUID
    name: str = ""  # pattern: prod-*
    type: str = ""
    project: str = ""
    service: str = ""  # serviceManagementReference
    assignee: str | None = None
    team: str | None = None
    area: str | None = None

    def fits(self, connection: Connection, project: str) -> bool:
        """Return True when every condition given holds."""
        return (
            (not self.connection or self.connection.lower() == connection.id)
            and (not self.name or fnmatchcase(connection.name.lower(), self.name.lower()))
            and (not self.type or self.type.lower() == connection.type)
            and (not self.project or self.project.lower() in {project.lower(), connection.project_id.lower()})
            and (not self.service or self.service == connection.service_management_reference)
        )


@dataclass(frozen=True)
class OwnersFile:
    """The entries, in the order of the file; the first that fits wins."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Fallback:
    """Who gets what nobody else owns."""

    team: str | None = None
    area: str | None = None
    assignee: str | None = None


def load_owners(path: Path) -> OwnersFile:
    """Read an owners file. Raises UsageError that names file, entry and key."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"owners.file: {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"owners.file: {path} is not valid TOML: {error}.") from None
    entries = data.get("owner")
    if set(data) - {"owner"} or not isinstance(entries, list):
        raise UsageError(f"owners.file: {path} must hold [[owner]] entries and nothing else.")
    problems = [f"  {path}, entry {n}: {p}" for n, each in enumerate(entries, 1) for p in _problems(each)]
    if problems:
        raise UsageError("The owners file is wrong:\n" + "\n".join(problems))
    return OwnersFile(tuple(Entry(**each) for each in entries))


def _problems(entry: Any) -> list[str]:
    if not isinstance(entry, dict):
        return ["is no table; write [[owner]]"]
    known = [f.name for f in fields(Entry)]
    problems = []
    for key, value in entry.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            problems.append(f"{key}: no such key" + (f"; did you mean {near[0]!r}?" if near else ""))
        elif not isinstance(value, str) or not value:
            problems.append(f"{key}: must be a text")
    if not {"assignee", "team", "area"} & set(entry):
        problems.append("names nobody: give assignee, team or area")
    if not {"connection", "name", "type", "project", "service"} & set(entry):
        problems.append("has no condition: give connection, name, type, project or service")
    return problems


def find(
    door: Door, run: Run, attribution: Attribution, owners: OwnersFile | None, fallback: Fallback
) -> Owner:
    """Return who should renew the credential; best evidence first. Asks who is still there, in one call."""
    return _find(door, attribution.connection, run.project_name, _of_run(run), owners, fallback)


def ahead(
    door: Door, connection: Connection, project: str, owners: OwnersFile | None, fallback: Fallback
) -> Owner:
    """Return who should renew a connection of a project that has broken no run yet."""
    return _find(door, connection, project, [], owners, fallback)


def _find(
    door: Door,
    connection: Connection | None,
    project: str,
    askers: list[tuple[OwnerMethod, Identity]],
    owners: OwnersFile | None,
    fallback: Fallback,
) -> Owner:
    if connection is not None and (owner := _by_file(connection, project, owners)):
        return owner
    people = [*(_of_connection(connection) if connection else []), *askers]
    wanted = [person.id for _, person in people if is_assignable(person)]
    present = door.identities(wanted) if wanted else {}
    chosen = _first(people, present, connection, fallback)
    made_by = connection.created_by if connection else None
    has_left = made_by is not None and is_assignable(made_by) and made_by.id.lower() not in present
    return replace(chosen, creator_left=True) if has_left else chosen


def _first(
    people: list[tuple[OwnerMethod, Identity]],
    present: dict[str, Identity],
    connection: Connection | None,
    fallback: Fallback,
) -> Owner:
    """Return the first of the people who is a person and still there."""
    passed_over: dict[str, str] = {}  # whoever has changed a connection has often made it, too
    for method, person in people:
        known = present.get(person.id.lower())
        if not is_assignable(person) or known is None or not _is_person(known):
            passed_over.setdefault(person.id, _passed_over(method, person, known))
        else:
            # The directory knows the name of today; a connection keeps the one of when it was made.
            named = replace(person, unique_name=known.unique_name or person.unique_name)
            return _person(method, named, connection, list(passed_over.values()))
    return _nobody(connection, fallback, list(passed_over.values()))


def _passed_over(method: OwnerMethod, person: Identity, known: Identity | None) -> str:
    """Return who is not asked, what they did and why not."""
    name = person.display_name or "Azure DevOps itself"
    if not _is_person(person) or (known and not _is_person(known)):
        return f"{name}, which {_DID[method]}, is no person"
    why = "has left" if is_assignable(person) else "has no mail address"
    return f"{name}, who {_DID[method]}, {why}"


def is_assignable(identity: Identity | None) -> bool:
    """Return True for people: not groups, service principals, build services or the system itself."""
    return identity is not None and _is_person(identity) and bool(_MAIL.match(identity.unique_name or ""))


def _is_person(identity: Identity) -> bool:
    descriptor, name = (identity.descriptor or "").lower(), identity.unique_name or ""
    system = identity.id == _SYSTEM or name.startswith(_SYSTEM)
    return not (identity.is_container or system or descriptor.startswith(_SERVICE_DESCRIPTORS))


def _by_file(connection: Connection, project: str, owners: OwnersFile | None) -> Owner | None:
    for number, entry in enumerate(owners.entries if owners else (), 1):
        if entry.fits(connection, project):
            method = OwnerMethod.SERVICE_TREE if entry.service else OwnerMethod.OWNERS_FILE
            reason = f"The owners file says so (entry {number})."
            return Owner(entry.assignee, method, reason, None, entry.team, entry.area)
    return None


def _of_connection(connection: Connection) -> list[tuple[OwnerMethod, Identity]]:
    people = [
        *((OwnerMethod.ADMINISTRATOR, person) for person in connection.administrators),
        (OwnerMethod.MODIFIED_BY, connection.modified_by),
        (OwnerMethod.CREATED_BY, connection.created_by),
    ]
    return [(method, person) for method, person in people if person is not None]


def _of_run(run: Run) -> list[tuple[OwnerMethod, Identity]]:
    """Return who asked for the run: neither who offers a change from outside nor Azure DevOps itself."""
    people = () if run.is_fork else (run.requested_for, run.requested_by)
    return [(OwnerMethod.REQUESTER, p) for p in people if p is not None and p.id != _SYSTEM]


def _person(
    method: OwnerMethod, person: Identity, connection: Connection | None, passed_over: list[str]
) -> Owner:
    names = _because(passed_over)
    if method is OwnerMethod.REQUESTER:
        reason = f"{_missing(connection)}{names}; {person.display_name} asked for this run."
        return Owner(person.unique_name, method, reason, person)
    dated = connection is not None and _dated(method, connection)
    when = f" on {connection.modified_at:%Y-%m-%d}" if dated and connection else ""
    did = _DID[method].replace(" it", " the connection")
    reason = f"{person.display_name} {did}{when}{names}."
    return Owner(person.unique_name, method, reason, person)


def _nobody(connection: Connection | None, fallback: Fallback, passed_over: list[str]) -> Owner:
    why = _missing(connection) + _because(passed_over)
    whom = fallback.assignee or fallback.team or fallback.area
    if whom:
        reason = f"{why}; triage's settings name {whom} for that."
        return Owner(fallback.assignee, OwnerMethod.FALLBACK, reason, None, fallback.team, fallback.area)
    reason = f"{why}, and triage's settings name no default (owners.default_…)."
    return Owner(None, OwnerMethod.NOBODY, reason)


def _missing(connection: Connection | None) -> str:
    if connection is None:
        return "The connection is not known"
    return "The connection names nobody who can be assigned"


def _because(passed_over: list[str]) -> str:
    return f" ({'; '.join(passed_over)})" if passed_over else ""


def _dated(method: OwnerMethod, connection: Connection) -> bool:
    return method is OwnerMethod.MODIFIED_BY and connection.modified_at is not None
