"""Read all recipes, and name everything that is wrong with them at once."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from triage.errors import RulePackError
from triage.match import shipped_rules
from triage.match.load import RECIPES, rule_files
from triage.renewal.placeholders import CODE, NAMES, PLACEHOLDER, SENTENCES
from triage.renewal.recipe import RecipeFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What a recipe of a credential has to say, and how the check asks for it.
_DEMANDED = {
    "command_line": "say how to do it from the command line, or why not, in one sentence: 'There is no …'",
    "permissions": "say who may do it",
    "verify": "say how to check that it works again",
    "meanwhile": "say what breaks until then, and what the renewal itself breaks",
}
_NO_COMMAND = "There is no "
# Everybody on the machine sees a command's arguments, and the shell's history keeps them.
_SECRET_ARGUMENT = re.compile(
    r"\s--?(?:p|pass|password|pwd|token|secret|client-secret|api-?key|pat)[= ]['\"]?(?:[<{]|\$\{?\w)",
    re.IGNORECASE,
)


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


def _read(path: Path | None) -> tuple[list[RecipeFile], list[str]]:
    root = path or shipped_rules()
    folder = root / RECIPES
    if not folder.is_dir():
        folder = shipped_rules() / RECIPES
    recipes: list[RecipeFile] = []
    problems: list[str] = []
    for file in sorted(folder.rglob("*.toml")):
        name = f"{RECIPES}/{file.relative_to(folder)}"
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
        problems += [f"{name}: {problem}" for problem in (*_wording(recipe), *_gaps(recipe))]
        recipes.append(recipe)
    if not problems and not any(each.unconditional for recipe in recipes for each in recipe.applies):
        problems.append(f"{RECIPES}/: no recipe applies to everything; one without conditions must")
    return recipes, problems


def _wording(recipe: RecipeFile) -> Iterator[str]:
    """Yield what a reader would see wrongly, or had better not do."""
    for key, text in recipe.texts():
        for name in sorted(set(PLACEHOLDER.findall(text)) - NAMES):
            yield f"{key}: there is no placeholder {{{name}}}"
        if text.count("`") % 2:
            yield f"{key}: a backtick is not closed: {text!r}"
        for part in CODE.split(text):
            if part.startswith("`"):
                yield from (f"{key}: {problem}" for problem in _command(part))
            elif re.search(r"<\w", part):
                yield f"{key}: '<…>' outside of backticks is taken for HTML and vanishes: {text!r}"
    for reference in recipe.meta.references:
        if not re.fullmatch(r"https://[^\s<>()]+", reference):
            yield f"meta.references: not an address that begins with https://: {reference!r}"


def _command(code: str) -> Iterator[str]:
    for name in sorted(set(PLACEHOLDER.findall(code)) & SENTENCES):
        yield f"{{{name}}} is a whole sentence and cannot stand in a command"
    if _SECRET_ARGUMENT.search(code):
        yield f"others can read a secret in an argument; use standard input or the environment: {code}"


def _gaps(recipe: RecipeFile) -> Iterator[str]:
    """Yield what the recipe of a credential leaves unsaid; what only sets up may be short."""
    if not recipe.renews:
        return
    for key, demand in _DEMANDED.items():
        if not getattr(recipe.renewal, key):
            yield f"renewal.{key}: is missing: {demand}"
    if bool(recipe.alternatives) == bool(recipe.renewal.no_alternative):
        yield (
            "alternatives: say how never to have to again, or in renewal.no_alternative why that cannot be; "
            "one of the two"
        )
    commands = recipe.renewal.command_line
    told = [text for text in commands if "`" not in text and "{enter_command}" not in text]
    if told and not (len(commands) == 1 and told[0].startswith(_NO_COMMAND)):
        yield f"renewal.command_line: has no command in backticks: {told[0]!r}"


def _advice(path: Path | None, known: set[str]) -> list[str]:
    """Return the rules whose `advice` names no recipe."""
    problems = []
    root = path or shipped_rules()
    for file in rule_files(root):
        try:
            advice = tomllib.loads(file.read_text(encoding="utf-8")).get("advice")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError):
            continue  # told by the rules' own check
        if advice and advice not in known:
            problems.append(f"{file.relative_to(root)}: advice: there is no recipe {advice!r}")
    return problems
