"""Read a rule pack from its folder, and report every problem of every rule at once."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

import triage
from triage.errors import RulePackError, UsageError
from triage.match import kept, proof
from triage.match.pack import Pack, prepare
from triage.match.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Mapping

RECIPES = "renewal"  # the folder beside the rules that holds no rules


def shipped_rules() -> Path:
    """Return the folder of the shipped pack: inside the wheel, or beside the package in a checkout."""
    package = Path(triage.__file__).parent
    inside = package / "rules"
    return inside if inside.is_dir() else package.parent / "rules"


def load_pack(path: Path | None = None) -> Pack:
    """Read the shipped pack, or the one in a folder, which is checked completely.

    What was read is kept for the next start and noticed to be old when a file has changed. Raises
    RulePackError with every problem found, UsageError when the folder does not exist.
    """
    folder = path or shipped_rules()
    files = rule_files(folder)
    key = kept.key(folder, files)
    if pack := kept.load(key):
        return pack
    rules, problems = read(folder)
    if path is not None and not problems:
        problems = proof.prove(rules)
    if problems:
        raise RulePackError(problems)
    found = [rule for _, rule in rules]
    prepared = prepare(found)
    kept.save(key, found, prepared)
    return Pack(tuple(found), prepared.scanner())


def check(path: Path | None = None, only: Path | None = None) -> list[str]:
    """Return every problem of the pack as `file: key: what is wrong`.

    With `only`, the problems of one file among the others of the pack; it need not lie in its folder.
    """
    folder = path or shipped_rules()
    if only is None:
        rules, problems = read(folder)
        return problems + proof.prove(rules)
    name = file_name(folder, only)
    rules, problems = read(folder, beside=only)
    mine = [problem for problem in problems if problem.startswith(f"{name}: ")]
    return mine or proof.prove(rules, only=name)


def count(path: Path | None = None) -> int:
    """Return how many rules a pack has."""
    return len(rule_files(path or shipped_rules()))


def file_name(folder: Path, file: Path) -> str:
    """Return a file's name as problems give it: from the pack's folder on, if it lies there."""
    inside = file.resolve().is_relative_to(folder.resolve())
    return str(file.resolve().relative_to(folder.resolve()) if inside else file)


def rule_files(folder: Path) -> list[Path]:
    """Return the files of a pack's rules, in order. Raises UsageError when there is no such folder."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; rules.path (--rules) must name the folder of a rule pack.")
    return sorted(f for f in folder.rglob("*.toml") if RECIPES not in f.relative_to(folder).parts[:1])


def read(folder: Path, beside: Path | None = None) -> tuple[list[tuple[str, Rule]], list[str]]:
    """Return each file's rule, examples and all, and what is wrong with the files that hold none.

    `beside` is one more file, which wins where the folder has a rule of its id.
    """
    files = [(str(file.relative_to(folder)), file) for file in rule_files(folder)]
    problems: list[str] = []
    if not files:
        problems.append(f"{folder}: holds no rule; a rule is a .toml file (see rules/README.md)")
    if beside is not None:
        name = file_name(folder, beside)
        files = [each for each in files if each[1].stem != beside.stem] + [(name, beside)]
    rules: list[tuple[str, Rule]] = []
    seen: dict[str, str] = {}
    for name, file in files:
        rule, wrong = read_one(file)
        problems += [f"{name}: {each}" for each in wrong]
        if rule is None:
            continue
        if rule.id != file.stem:
            problems.append(f"{name}: id: is {rule.id!r} but must be the file's name, {file.stem!r}")
        if rule.id in seen:
            problems.append(f"{name}: id: {rule.id!r} is taken by {seen[rule.id]}")
        seen[rule.id] = name
        rules.append((name, rule))
    return rules, problems


def read_one(file: Path, instead: Mapping[str, Any] = MappingProxyType({})) -> tuple[Rule | None, list[str]]:
    """Return a file's rule, or None and what is wrong with it; what `instead` holds is not read from it."""
    try:
        stated = tomllib.loads(file.read_text(encoding="utf-8"))
        return Rule.model_validate({**stated, **instead}), []
    except tomllib.TOMLDecodeError as error:
        return None, [f"not valid TOML: {error}"]
    except (UnicodeDecodeError, OSError) as error:
        return None, [f"cannot be read: {error}"]
    except ValidationError as error:
        return None, [_explain(e) for e in error.errors(include_url=False)]


def _explain(error: Any) -> str:
    # TOML has no names for tables in a row: people count them from 1.
    path = ".".join(str(part + 1) if isinstance(part, int) else part for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(error["loc"][-1]), list(Rule.model_fields), n=1)
        return f"{path}: no such key" + (f"; did you mean {near[0]!r}?" if near else "")
    if error["type"] == "missing":
        return f"{path}: is missing"
    if error["type"] == "string_too_short":
        return f"{path}: is empty; fill it in"
    if error["type"] == "too_short":
        return f"{path}: needs at least one"
    if error["type"] == "value_error":
        return f"{path}: {error['ctx']['error']}"
    return f"{path}: {error['msg']}"
