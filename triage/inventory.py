"""Every service connection that triage sees, when its credential ends and who uses it. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from triage import expiry
from triage.azdo import graph as microsoft_graph
from triage.azdo import sign_in
from triage.db import now
from triage.errors import AccessRefused, Cancel, UsageError
from triage.expiry import End, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triage.azdo import Account, Door, Use
    from triage.azdo.graph import Graph
    from triage.config import Credential, Settings
    from triage.domain import Connection

_USES = 50  # of one connection; more would say no more about who uses it
UNUSED_AFTER = timedelta(days=90)  # a connection that no run used for longer counts as unused
_WITHOUT_END = {"managed-identity", "workload-identity", "azure-cli"}
SUCCEEDED = {"succeeded", "succeededWithIssues"}


@dataclass(frozen=True)
class Place:
    """A connection as one project sees it."""

    project: str  # name
    connection: Connection


@dataclass(frozen=True)
class Held:
    """A connection, in all projects that share it."""

    places: tuple[Place, ...]  # never empty
    end: End
    uses: tuple[Use, ...] | None = None  # newest first; None: not asked, or triage may not see them
    is_refused: bool = False  # triage may not see them

    @property
    def connection(self) -> Connection:
        """Return it as its first project sees it."""
        return self.places[0].connection

    @property
    def last_used(self) -> datetime | None:
        """Return when a run used it last, None when none did or that is not known."""
        return max((use.finished_at for use in self.uses or () if use.finished_at), default=None)

    @property
    def is_unused(self) -> bool:
        """Return True when Azure DevOps remembers no use of it."""
        return self.uses == ()

    @property
    def pipelines(self) -> tuple[str, ...]:
        """Return the names of the pipelines that used it lately, the last first."""
        return tuple(dict.fromkeys(_pipeline(use) for use in self.uses or ()))


@dataclass(frozen=True)
class Own:
    """A credential of triage's own."""

    setting: str  # azure_devops, azure_devops.writer, service_bus.credential
    auth: str
    end: End


@dataclass(frozen=True)
class Seen:
    """The connections by id, and what triage was not allowed to see."""

    places: dict[str, tuple[Place, ...]]
    projects: frozenset[str]  # ids of those that were looked at
    refused: tuple[str, ...]  # one sentence each


def seen(door: Door, only: Sequence[str] = ()) -> Seen:
    """Return the connections of some projects, or of all. Raises UsageError for one that is not there."""
    found: dict[str, list[Place]] = {}
    looked, refused = set(), []
    for number, name in _chosen(door, only):
        try:
            connections = door.connections(number, remembered=False)
        except (AccessRefused, Cancel) as refusal:
            refused.append(f"The connections of {name} are not shown to triage: {refusal}")
            continue
        looked.add(number)
        for each in connections:
            found.setdefault(each.id, []).append(Place(name, each))
    return Seen(
        {number: tuple(places) for number, places in found.items()}, frozenset(looked), tuple(refused)
    )


def look(places: tuple[Place, ...], graph: Graph | None) -> Held:
    """Return a connection with its end, as far as it can be known without asking who uses it."""
    connection = places[0].connection
    app = connection.parameters.get("serviceprincipalid", "")
    asked = graph is not None and connection.scheme == "serviceprincipal"
    return Held(places, expiry.of(connection, graph.application(app) if asked and graph else None))


def with_uses(door: Door, held: Held) -> Held:
    """Ask who used a connection lately; that it worked may say more of its end. One request a project."""
    uses: list[Use] = []
    try:
        for place in held.places:
            uses += door.execution_history(
                place.connection.project_id, place.connection.id, top=_USES, pages=1
            )
    except (AccessRefused, Cancel):
        return replace(held, is_refused=True)
    oldest = datetime.min.replace(tzinfo=UTC)
    uses.sort(key=lambda use: use.finished_at or oldest, reverse=True)
    end = held.end
    if end.source is Source.AUTOMATIC:
        worked = max((u.finished_at for u in uses if u.finished_at and u.result in SUCCEEDED), default=None)
        end = expiry.of(held.connection, None, worked)
    return replace(held, uses=tuple(uses), end=end)


def is_idle(last_used: datetime | None) -> bool:
    """Return True when nobody needs a connection, by when a run used it last: never, or too long ago."""
    return last_used is None or now() - last_used > UNUSED_AFTER


def own(settings: Settings, graph: Graph | None) -> tuple[Own, ...]:
    """Return the credentials that triage itself works with."""
    given = {
        "azure_devops": settings.azure_devops,
        "azure_devops.writer": settings.azure_devops.writer,
        "service_bus.credential": settings.service_bus.credential,
    }
    return tuple(
        Own(setting, section.auth, _own_end(section, setting, graph))
        for setting, section in given.items()
        if section.configured or setting == "azure_devops"
    )


def asked(settings: Settings, account: Account) -> Graph | None:
    """Return what asks Microsoft Graph, None unless that is set. Raises UsageError when it cannot."""
    if not settings.expiry.graph:
        return None
    return microsoft_graph.from_settings(settings.expiry.graph_url, account.reader)


def _own_end(section: Credential, setting: str, graph: Graph | None) -> End:
    if section.auth in _WITHOUT_END:
        return End(None, Source.NOTHING, f"triage signs in by {section.auth}: nothing of it ends.")
    try:
        day = sign_in.expires_on(section)
    except (OSError, ValueError):
        return End(None, Source.UNKNOWN, f"The file of {setting}.certificate_file cannot be read.")
    if day is not None:
        told = f"Its certificate says so ({setting}.certificate_file)."
        if section.certificate_file is None:
            told = f"{setting}.expires_on says so."
        return End(datetime.combine(day, time(), UTC), Source.SETTINGS, told)
    application = (
        graph.application(section.client_id) if graph and section.auth == "service-principal" else None
    )
    ends = [each.ends_at for each in application.secrets if each.kind == "password"] if application else []
    if ends:
        return End(max(ends), Source.ENTRA, "The newest secret of triage's application ends then, at best.")
    return End(None, Source.UNKNOWN, f"Nobody tells; set {setting}.expires_on to that day.")


def _chosen(door: Door, only: Sequence[str]) -> list[tuple[str, str]]:
    known = sorted(door.projects(), key=lambda project: project[1].lower())
    wanted = {each.lower(): each for each in only}
    chosen = [
        (number, name) for number, name in known if not wanted or wanted.keys() & {number, name.lower()}
    ]
    missing = wanted.keys() - {each.lower() for project in chosen for each in project}
    if missing:
        named = ", ".join(wanted[each] for each in sorted(missing))
        raise UsageError(
            f"There is no project {named}, or triage may not see it; it sees "
            f"{', '.join(name for _, name in known) or 'none'}."
        )
    return chosen


def _pipeline(use: Use) -> str:
    kind = "release" if use.plan_type == "Release" else "pipeline"
    return use.definition_name or f"{kind} {use.definition_id}"
