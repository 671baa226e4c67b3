"""Read a rule pack from its folder, and report every problem of every rule at once."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import triage
from triage.errors import RulePackError, UsageError
from triage.match import kept, proof
from triage.match.pack import Pack, prepare
from triage.match.rule import Rule

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
    files = _files(folder)
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


def check(path: Path | None = None) -> list[str]:
    """Return every problem of the pack as `file: key: what is wrong`."""
    folder = path or shipped_rules()
    rules, problems = read(folder)
    return problems + proof.prove(rules)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; rules.path (--rules) must name the folder of a rule pack.")
    return sorted(f for f in folder.rglob("*.toml") if RECIPES not in f.relative_to(folder).parts[:1])


def read(folder: Path) -> tuple[list[tuple[str, Rule]], list[str]]:
    """Return each file's rule, examples and all, and what is wrong with the files that hold none."""
    files = _files(folder)
    rules: list[tuple[str, Rule]] = []
    problems: list[str] = []
    seen: dict[str, str] = {}
    if not files:
        problems.append(f"{folder}: holds no rule; a rule is a .toml file (see rules/README.md)")
    for file in files:
        name = str(file.relative_to(folder))
        try:
            rule = Rule.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
        except tomllib.TOMLDecodeError as error:
            problems.append(f"{name}: not valid TOML: {error}")
            continue
        except (UnicodeDecodeError, OSError) as error:
            problems.append(f"{name}: cannot be read: {error}")
            continue
        except ValidationError as error:
            problems += [f"{name}: {_explain(e)}" for e in error.errors(include_url=False)]
            continue
        if rule.id != file.stem:
            problems.append(f"{name}: id: is {rule.id!r} but must be the file's name, {file.stem!r}")
        if rule.id in seen:
            problems.append(f"{name}: id: {rule.id!r} is taken by {seen[rule.id]}")
        seen[rule.id] = name
        rules.append((name, rule))
    return rules, problems


def _explain(error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(error["loc"][-1]), list(Rule.model_fields), n=1)
        return f"{path}: no such key" + (f"; did you mean {near[0]!r}?" if near else "")
    if error["type"] == "missing":
        return f"{path}: is missing"
    if error["type"] == "too_short":
        return f"{path}: needs at least one"
    if error["type"] == "value_error":
        return f"{path}: {error['ctx']['error']}"
    return f"{path}: {error['msg']}"
