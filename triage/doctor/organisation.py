"""What Azure DevOps tells: the credential, who it is, the clock, what may be read, and the hooks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from triage import azdo, config, hooks, subscribing
from triage.azdo import administration
from triage.azdo.sign_in import expires_on
from triage.doctor import rights
from triage.doctor.check import Level, error, ok, some, warning
from triage.errors import AccessRefused, Cancel, JobError, TriageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from triage.azdo import Account, Door
    from triage.azdo.administration import Project
    from triage.config import Credential, Settings
    from triage.doctor.check import Check

_SOON_DAYS = 14
_SKEW_WARNING, _SKEW_ERROR = 30.0, 300.0  # seconds; Entra allows five minutes
_PROJECTS = 10  # whose rights are looked at


def examine(settings: Settings) -> Iterator[Check]:
    """Look at the credentials, and with them at the rest."""
    section = settings.azure_devops
    try:
        config.require_organization(settings)
        account = azdo.account(section)
        account.door()
    except TriageError as wrong:
        yield error("Azure DevOps", str(wrong), "triage init asks for all of it.")
        return
    yield from _expiry("credential", section, "azure_devops")
    if account.writer:
        yield from _expiry("writing credential", section.writer, "azure_devops.writer")
    if settings.service_bus.credential.configured:
        yield from _expiry("queue's credential", settings.service_bus.credential, "service_bus.credential")
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


def _expiry(name: str, section: Credential, setting: str) -> Iterator[Check]:
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
        end = expires_on(section)
    except (OSError, ValueError) as wrong:
        yield error(
            name, f"{section.certificate_file} cannot be read: {wrong}", "Check the certificate's file."
        )
        return
    if end is None:
        yield warning(
            name,
            f"{kind_told}; nobody tells when it expires.",
            f"Set {setting}.expires_on to that day, or use a managed identity, which never expires.",
        )
        return
    days = (end - datetime.now(UTC).date()).days
    fix = f"Renew it and set {setting} anew."
    if days < 0:
        yield error(name, f"{kind_told}; it expired on {end}.", fix)
    elif days <= _SOON_DAYS:
        yield warning(name, f"{kind_told}; it expires on {end}, in {days} days.", fix)
    else:
        yield ok(name, f"{kind_told}; it expires on {end}, in {days} days.")


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
    side = "ahead of" if skew > 0 else "behind"
    told = f"this machine's clock is {abs(skew):.0f} seconds {side} Azure DevOps'."
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
    yield from _guarded("rights", lambda: rights.examine(account, looked_at))
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
    if _may(door, "agent pools", project):
        yield warning(
            "token scopes",
            "the token also reads agent pools: it has more scopes than triage needs.",
            "Make a token with the scopes of deploy/README.md and no others.",
        )
    else:
        yield ok("token scopes", "none found beyond what triage needs.")


def _may(door: Door, what: str, project: Project) -> bool:
    try:
        administration.may_read(door, what, project)
    except (AccessRefused, Cancel):  # also what one may not see is not there
        return False
    return True


def _subscriptions(settings: Settings, door: Door, projects: Sequence[Project]) -> Iterator[Check]:
    if subscribing.bus_queue(settings):
        choice = subscribing.Choice(
            service_bus=True, send_connection_string="Endpoint=sb://-;SharedAccessKey=-"
        )
    else:
        choice = subscribing.Choice()
    if not choice.service_bus and not settings.server.public_url:
        yield warning(
            "hooks",
            "without server.public_url nobody knows which are triage's.",
            "Set server.public_url, then `triage hooks install --all-projects`.",
        )
        return
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
            f"{len(without)} projects have none: {some(without)}.",
            "triage hooks install --all-projects, or --project NAME; otherwise triage does not serve them.",
        )
    else:
        yield ok("hooks", f"{len(served)} projects send to {target.name}.")
