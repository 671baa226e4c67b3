"""Choose the renewal steps that fit a connection, and fill in its names and links. Pure."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from triage.domain import Recipe
from triage.errors import RulePackError
from triage.link import task_inputs
from triage.match import shipped_rules
from triage.publish.safe import words

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from triage.domain import Connection, Match, Run, TimelineRecord

FOLDER = "renewal"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_APP_PAGE = (
    "https://portal.azure.com/#view/Microsoft_AAD_RegisteredApps/ApplicationMenuBlade/~/Credentials/appId/"
)
# What stands in for a value that is not known.
_PHRASES = {
    "connection_name": "the service connection",
    "connection_url": "",
    "connection_type": "service connection",
    "app_id": "<application id>",
    "app_url": "https://portal.azure.com/#view/Microsoft_AAD_IAM/ActiveDirectoryMenuBlade/~/RegisteredApps",
    "tenant_id": "<tenant id>",
    "subscription_id": "<subscription id>",
    "registry": "the registry",
    "run_url": "",
    "task": "the task",
    "task_upgrade": "perhaps a newer major version",
    "project_name": "the project",
    "organization_url": "",
    "pipeline_name": "the pipeline",
}


class Applies(BaseModel):
    """When a recipe fits; every key that is given must."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    types: list[str] = Field(default_factory=list)
    schemes: list[str] = Field(default_factory=list)
    authentication: list[str] = Field(default_factory=list)
    creation: list[str] = Field(default_factory=list)
    credentials: list[str] = Field(default_factory=list)
    verdicts: list[str] = Field(default_factory=list)
    advice: list[str] = Field(default_factory=list)
    tasks: list[str] = Field(default_factory=list)
    priority: int = 0


class Steps(BaseModel):
    """What a person does."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    steps: list[str] = Field(min_length=1)
    warnings: list[str] = Field(default_factory=list)
    permissions: list[str] = Field(default_factory=list)
    verify: str = ""
    interval: str = ""


class Alternative(BaseModel):
    """Another way, usually one that never has to be renewed again."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    title: str
    steps: list[str] = Field(min_length=1)


class Meta(BaseModel):
    """Where the advice comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    references: list[str] = Field(min_length=1)


class RecipeFile(BaseModel):
    """One file of rules/renewal/."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    title: str
    applies: Applies = Applies()
    renewal: Steps
    alternatives: list[Alternative] = Field(default_factory=list)
    meta: Meta


@dataclass(frozen=True)
class RecipeBook:
    """All recipes."""

    recipes: tuple[RecipeFile, ...]


def load(path: Path | None = None) -> RecipeBook:
    """Read the recipes of the shipped pack or of one's own; a pack without any uses the shipped ones.

    Raises RulePackError with every problem found.
    """
    recipes, problems = _read(path)
    if problems:
        raise RulePackError(problems)
    return RecipeBook(tuple(recipes))


def check(path: Path | None = None) -> list[str]:
    """Return every problem of the recipes as `file: key: what is wrong`."""
    recipes, problems = _read(path)
    return problems + _advice(path, {recipe.id for recipe in recipes})


def choose(
    book: RecipeBook,
    connection: Connection | None,
    match: Match,
    run: Run,
    record: TimelineRecord | None,
    organization_url: str,
) -> Recipe:
    """Return the recipe that fits most closely: by priority, then by how many conditions hold."""
    fitting = [(s, r) for r in book.recipes if (s := _fit(r.applies, connection, match, record)) is not None]
    best = max(fitting, key=lambda pair: (pair[1].applies.priority, pair[0], pair[1].id))[1]
    known = _values(connection, run, record, organization_url)

    def fill(text: str) -> str:
        return _fill(text, known)

    return Recipe(
        id=best.id,
        title=fill(best.title),
        steps=tuple(fill(s) for s in best.renewal.steps),
        warnings=tuple(fill(s) for s in best.renewal.warnings),
        alternatives=tuple((fill(a.title), tuple(fill(s) for s in a.steps)) for a in best.alternatives),
        permissions=tuple(fill(s) for s in best.renewal.permissions),
        verify=fill(best.renewal.verify),
        interval=best.renewal.interval,
        references=tuple(best.meta.references),
    )


def _fit(
    applies: Applies, connection: Connection | None, match: Match, record: TimelineRecord | None
) -> int | None:
    """Return how many conditions hold, None when one does not."""
    task = record.task if record else None
    tests = [
        (applies.types, connection.type if connection else "unknown"),
        (applies.schemes, connection.scheme if connection else ""),
        (applies.authentication, connection.authentication if connection else ""),
        (applies.creation, connection.creation_mode if connection else ""),
        (applies.credentials, match.credential),
        (applies.verdicts, match.verdict.value),
        (applies.advice, match.advice),
        (applies.tasks, str(task) if task else ""),
    ]
    given = [(wanted, is_) for wanted, is_ in tests if wanted]
    if not all(is_ in wanted for wanted, is_ in given):
        return None
    return len(given)


def _values(
    connection: Connection | None, run: Run, record: TimelineRecord | None, organization_url: str
) -> dict[str, str]:
    task = record.task if record else None
    known = {
        "run_url": run.url,
        "project_name": words(run.project_name),
        "pipeline_name": words(run.pipeline_name),
        "organization_url": organization_url,
        "task": words(str(task)) if task else "",
        "task_upgrade": _upgrade(record),
        "connection_url": f"{organization_url}/{quote(run.project_name)}/_settings/adminservices",
    }
    if connection is not None:
        app = connection.parameters.get("serviceprincipalid", "")
        known |= {
            "connection_name": words(connection.name),
            "connection_url": connection.url,
            "connection_type": words(connection.type),
            "app_id": words(app),
            "app_url": _APP_PAGE + quote(app, safe="") if app else "",
            "tenant_id": words(connection.parameters.get("tenantid", "")),
            "subscription_id": words(connection.data.get("subscriptionid", "")),
            "registry": words(
                connection.parameters.get("loginserver") or connection.parameters.get("registry", "")
            ),
        }
    return known


def _upgrade(record: TimelineRecord | None) -> str:
    """Return which version of a task supports federation, as Microsoft's table says."""
    if record is None or record.task is None:
        return ""
    said = task_inputs.federation(record.task)
    if said.startswith("Use "):
        return said.removeprefix("Use ")
    return words(str(record.task)) if said == "Y" else ""


def _fill(text: str, known: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda m: known.get(m[1]) or _PHRASES[m[1]], text)


def _read(path: Path | None) -> tuple[list[RecipeFile], list[str]]:
    root = path or shipped_rules()
    folder = root / FOLDER
    if not folder.is_dir():
        folder = shipped_rules() / FOLDER
    recipes: list[RecipeFile] = []
    problems: list[str] = []
    for file in sorted(folder.rglob("*.toml")):
        name = f"{FOLDER}/{file.relative_to(folder)}"
        try:
            recipe = RecipeFile.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            problems.append(f"{name}: cannot be read as TOML: {error}")
            continue
        except ValidationError as error:
            problems += [f"{name}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            continue
        if recipe.id != file.stem:
            problems.append(f"{name}: id: is {recipe.id!r} but must be the file's name, {file.stem!r}")
        problems += [f"{name}: there is no placeholder {{{each}}}" for each in _unknown(recipe)]
        recipes.append(recipe)
    if not problems and not any(_is_last_resort(recipe) for recipe in recipes):
        problems.append(f"{FOLDER}/: no recipe applies to everything; one without conditions must")
    return recipes, problems


def _unknown(recipe: RecipeFile) -> list[str]:
    texts = [recipe.title, recipe.renewal.verify, *recipe.renewal.steps, *recipe.renewal.warnings]
    texts += [*recipe.renewal.permissions]
    texts += [text for each in recipe.alternatives for text in (each.title, *each.steps)]
    return sorted({name for text in texts for name in _PLACEHOLDER.findall(text)} - set(_PHRASES))


def _is_last_resort(recipe: RecipeFile) -> bool:
    return not any(value for name, value in recipe.applies.model_dump().items() if name != "priority")


def _advice(path: Path | None, known: set[str]) -> list[str]:
    """Return the rules whose `advice` names no recipe."""
    problems = []
    root: Any = path or shipped_rules()
    for file in sorted(root.rglob("*.toml")):
        if file.parent.name == FOLDER:
            continue
        try:
            advice = tomllib.loads(file.read_text(encoding="utf-8")).get("advice")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError):
            continue  # told by the rules' own check
        if advice and advice not in known:
            problems.append(f"{file.relative_to(root)}: advice: there is no recipe {advice!r}")
    return problems
