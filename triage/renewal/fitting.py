"""Which recipe fits a finding most closely."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from triage.domain import Confidence, Match, Recipe, Run, RunRef, Verdict
from triage.renewal import state
from triage.renewal.placeholders import fill, values

if TYPE_CHECKING:
    from collections.abc import Iterable

    from triage.domain import Connection, Owner, TimelineRecord
    from triage.renewal.book import RecipeBook
    from triage.renewal.recipe import Applies, RecipeFile
    from triage.renewal.registration import Registration


def choose(
    book: RecipeBook,
    connection: Connection | None,
    match: Match,
    run: Run,
    record: TimelineRecord | None,
    organization_url: str,
    owner: Owner | None = None,
    registered: Registration | None = None,
) -> Recipe:
    """Return the recipe that fits most closely: by priority, then by how many conditions hold.

    What the connection's state says is added to it, and what Entra says of its application.
    """
    fitting = [
        ((each.priority, held, recipe.id), recipe)
        for recipe in book.recipes
        for each in recipe.applies
        if (held := _held(each, connection, match, record)) is not None
    ]
    best = max(fitting, key=lambda pair: pair[0])[1]
    known = values(connection, run, record, organization_url)
    told = _filled(best, known)
    if connection is not None:
        federating = frozenset(fill(each.title, known) for each in best.alternatives if each.federates)
        told = state.without_closed_ways(told, federating, record.task if record else None, connection.type)
        told = state.lasting(told, connection)
    return replace(
        told,
        warnings=(*state.warnings(connection, match, run, owner, registered), *told.warnings),
        links=state.links(connection, run),
    )


def ahead(book: RecipeBook, connection: Connection, project: str, organization_url: str) -> Recipe:
    """Return the recipe of a connection that has broken no run yet."""
    nothing = Match("", "", "", Verdict.EXPIRED, Confidence.CERTAIN, 0, {}, "")
    # Where a recipe sends people to the run that failed, the connection's page lists those that use it.
    run = Run(
        ref=RunRef(connection.project_id, 0),
        project_id=connection.project_id,
        project_name=project,
        number="",
        pipeline_id=0,
        pipeline_name="",
        pipeline_revision=None,
        status="",
        result="",
        reason="",
        source_branch="",
        source_version="",
        url=connection.url,
    )
    told = choose(book, connection, nothing, run, None, organization_url)
    return _of_any_run(told, connection.url)


def _of_any_run(recipe: Recipe, connection_url: str) -> Recipe:
    """Return a recipe that sends people to a pipeline that uses the connection, not to one that failed."""
    failed, any_ = f"the [pipeline]({connection_url}) again", f"a [pipeline that uses it]({connection_url})"
    return replace(
        recipe,
        steps=tuple(step.replace(failed, any_) for step in recipe.steps),
        verify=recipe.verify.replace(failed, any_),
        links=tuple(page for page in recipe.links if page != state.run_link(connection_url)),
    )


def _held(
    applies: Applies, connection: Connection | None, match: Match, record: TimelineRecord | None
) -> int | None:
    """Return how many conditions hold, None when one does not."""
    task = record.task if record else None
    tests = [
        (applies.types, connection.type if connection else "unknown"),
        (applies.schemes, connection.scheme if connection else ""),
        (applies.authentication, connection.authentication if connection else ""),
        (applies.creation, connection.creation_mode if connection else ""),
        (applies.modes, connection.data.get("authorizationtype", "").lower() if connection else ""),
        (applies.credentials, match.credential),
        (applies.verdicts, match.verdict.value),
        (applies.advice, match.advice),
        (applies.tasks, str(task) if task else ""),
    ]
    given = [is_ in wanted for wanted, is_ in tests if wanted]
    if applies.hosts:
        host = _host(connection)
        given.append(any(host == each or host.endswith(f".{each}") for each in applies.hosts))
    return len(given) if all(given) else None


def _host(connection: Connection | None) -> str:
    """Return the host that a connection leads to, lower case; "" when it names none."""
    if connection is None:
        return ""
    parameters = connection.parameters
    address = parameters.get("registry") or parameters.get("loginserver") or connection.server_url
    try:
        return urlsplit(address if "//" in address else f"//{address}").hostname or ""
    except ValueError:
        return ""


def _filled(best: RecipeFile, known: dict[str, str]) -> Recipe:
    def each(texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(fill(text, known) for text in texts)

    of = best.renewal
    return Recipe(
        id=best.id,
        title=fill(best.title, known),
        steps=each(of.steps),
        command_line=each(of.command_line),
        warnings=each(of.warnings),
        alternatives=tuple((fill(a.title, known), each(a.steps)) for a in best.alternatives),
        lasting=next(
            ((fill(a.title, known), fill(a.effort, known)) for a in best.alternatives if a.effort), None
        ),
        permissions=each(of.permissions),
        verify=fill(of.verify, known),
        meanwhile=fill(of.meanwhile, known),
        interval=of.interval,
        no_alternative=fill(of.no_alternative, known),
        references=tuple(best.meta.references),
    )


def as_json(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as pages and `triage explain` tell it."""
    return {
        "recipe": recipe.id,
        "title": recipe.title,
        "links": [{"title": title, "url": url} for title, url in recipe.links],
        "warnings": list(recipe.warnings),
        "steps": list(recipe.steps),
        "command_line": list(recipe.command_line),
        "permissions": list(recipe.permissions),
        "verify": recipe.verify,
        "meanwhile": recipe.meanwhile,
        "interval": recipe.interval,
        "alternatives": [{"title": title, "steps": list(steps)} for title, steps in recipe.alternatives],
        "no_alternative": recipe.no_alternative,
        "references": list(recipe.references),
    }
