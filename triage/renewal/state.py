"""What a connection's state adds to the recipe that fits its kind: warnings, ways that are closed, pages.

A recipe is about a kind of connection; this is about the one at hand, so that recipes need not repeat it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from triage.link import identifiers, task_inputs
from triage.match.redact import mask
from triage.renewal import registration
from triage.safe import words

if TYPE_CHECKING:
    from datetime import datetime

    from triage.domain import Connection, Match, Owner, Recipe, Run, Task
    from triage.renewal.registration import Registration

_CREDENTIALS = (
    "https://portal.azure.com/#view/Microsoft_AAD_RegisteredApps/ApplicationMenuBlade/~/Credentials/appId/"
)


def credentials_page(connection: Connection) -> str:
    """Return the page of the credentials of a connection's application in Entra, "" when it has none.

    Clouds of their own have portals of their own.
    """
    app = connection.parameters.get("serviceprincipalid", "")
    cloud = connection.data.get("environment", "").lower()
    is_of_entra = connection.scheme in registration.OF_ENTRA and cloud in {"", "azurecloud"}
    return _CREDENTIALS + app.lower() if is_of_entra and identifiers.GUID.fullmatch(app) else ""


def links(connection: Connection | None, run: Run) -> tuple[tuple[str, str], ...]:
    """Return the pages that a renewal is done on, each with its title."""
    pages = [run_link(run.url)]
    if connection is not None:
        app = credentials_page(connection)
        of_app = [("its application's credentials in Entra", app)] if app else []
        pages = [("the connection", connection.url), *of_app, *pages]
    return tuple((title, url) for title, url in pages if url)


def run_link(url: str) -> tuple[str, str]:
    """Return the page of the run that failed, with its title."""
    return "the run, to run it again", url


def warnings(
    connection: Connection | None,
    match: Match,
    run: Run,
    owner: Owner | None,
    registered: Registration | None = None,
) -> tuple[str, ...]:
    """Return what has to be known of this connection before renewing it, Markdown, the gravest first."""
    if connection is None:
        return ()
    told = [
        _disabled(connection),
        _not_ready(connection),
        registration.told(connection, match, run, registered) if registered else "",
        _revertible(connection, run.finished_at),
        _shared(connection),
        _creator(connection, owner),
    ]
    return tuple(each for each in told if each)


def without_closed_ways(recipe: Recipe, federating: frozenset[str], task: Task | None, type_: str) -> Recipe:
    """Return a recipe that advises federation only where the failed step's task can use it.

    `federating` are the titles of the alternatives that end in federation of this very connection.
    """
    if task is None or not federating or not task_inputs.cannot_federate(task, type_):
        return recipe
    failed, newer = words(str(task)), task_inputs.federating_version(task)
    if newer:
        first = f"Change the step from {failed} to {words(newer)}: {failed} cannot use federation."
        ways = tuple(
            (title, (first, *steps) if title in federating else steps) for title, steps in recipe.alternatives
        )
        return replace(recipe, alternatives=ways)
    left = tuple(way for way in recipe.alternatives if way[0] not in federating)
    lasting = None if recipe.lasting and recipe.lasting[0] in federating else recipe.lasting
    why = (
        f"Workload identity federation would end it, but {failed}, which failed, has no version that can: "
        "convert no connection that it uses."
    )
    return replace(recipe, alternatives=left, lasting=lasting, no_alternative=why)


def lasting(recipe: Recipe, connection: Connection) -> Recipe:
    """Return a recipe that promises no quick end to what sharing keeps from being converted."""
    return replace(recipe, lasting=None) if _cannot_convert(connection) else recipe


def _disabled(connection: Connection) -> str:
    if not connection.is_disabled:
        return ""
    return (
        f"The connection is disabled, so no run can use it. Find out who disabled it and why; then enable it "
        f"on its [page]({connection.url}), or remove it from the pipelines."
    )


def _not_ready(connection: Connection) -> str:
    said = words(mask(connection.operation_message))
    if connection.is_ready:
        return f"Azure DevOps reports of its last change: “{said}”" if said else ""
    begun = "Azure DevOps could not finish creating or changing this connection, or is still at it."
    reported = f"It reports: “{said}” Mend that first" if said else "Look for the cause on its page first"
    return f"{begun} {reported}; if that is no use, create the connection anew."


def _revertible(connection: Connection, at: datetime | None) -> str:
    until = connection.revert_until
    if connection.scheme != "workloadidentityfederation" or until is None or (at and at > until):
        return ""
    return (
        "It was converted to workload identity federation within the last days. Until "
        f"{until:%Y-%m-%d %H:%M} UTC that can be undone on its [page]({connection.url}), which brings back "
        "the old secret: of use only if that has not expired."
    )


def _shared(connection: Connection) -> str:
    others = connection.project_count - 1
    if not connection.is_shared and others < 1:
        return ""
    which = "other projects"
    if others > 0:
        which = "1 other project" if others == 1 else f"{others} other projects"
    convert = ""
    if _cannot_convert(connection):
        convert = " While it is shared it cannot be converted to workload identity federation."
    return (
        f"The connection is shared with {which}: renewing it here renews it there, and what breaks here "
        f"breaks there.{convert}"
    )


def _cannot_convert(connection: Connection) -> bool:
    """Return whether sharing keeps a connection from being converted."""
    is_shared = connection.is_shared or connection.project_count > 1
    return is_shared and connection.scheme == "serviceprincipal" and connection.creation_mode == "automatic"


def _creator(connection: Connection, owner: Owner | None) -> str:
    if owner is None or not owner.creator_left or connection.created_by is None:
        return ""
    who = f"{words(connection.created_by.display_name) or 'Somebody'}, who created the connection, has left"
    if connection.scheme in registration.OF_ENTRA:
        return (
            f"{who}, and may have been the only owner of its application: if the renewal is refused, an "
            "*Application Administrator* in Microsoft Entra ID has to make somebody else its owner."
        )
    return (
        f"{who}. A credential of their own goes with their account: make the new one for a service account."
    )
