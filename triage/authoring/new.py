"""`triage rules new`: the file of a rule, with every key in its place, as far as it can be filled in."""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import triage
from triage.authoring import schema
from triage.errors import UsageError
from triage.match import by_words, load, search, shipped_rules
from triage.match.rule import CounterExample, Example, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel

    from triage.authoring.draft import Draft

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_ELSEWHERE = "other"  # the group of a rule that resembles none
_HEADER = """\
#:schema ../{}
# Fill in what is empty. Keys that a rule rarely needs are commented out. Delete the comments at the end.
"""
_COLUMNS = 100
_WRITTEN_EMPTY = {"title", "connection_types", "pattern", "false_positives", "references"}


def folder(path: Path | None) -> Path:
    """Return the pack's folder that a rule is written to. Raises UsageError when it is the installed one."""
    found = path or shipped_rules()
    if found.resolve().is_relative_to(Path(triage.__file__).parent):
        raise UsageError(
            "The shipped rules are installed and no place to write to: name your own pack's folder "
            "with --rules (or rules.path), or work in a clone of triage."
        )
    return found


def write(pack: Path, name: str, group: str | None, drafted: Draft | None) -> tuple[Path, list[str]]:
    """Write a new rule's file; return it and the ids of rules that match its line already.

    Raises UsageError when the rule exists or a name cannot be one.
    """
    for what, given in (("A rule's id", name), ("A group", group or "x")):
        if not _NAME.fullmatch(given):
            raise UsageError(f"{what} is made of a-z, 0-9 and -, and {given!r} is not.")
    if group == load.RECIPES:
        raise UsageError(f"{load.RECIPES}/ holds recipes; choose another group for a rule.")
    pack.mkdir(parents=True, exist_ok=True)
    rules, _ = load.read(pack)
    for file in pack.rglob(f"{name}.toml"):
        raise UsageError(f"{shown(file)} exists already; change it, or choose another id.")
    family = name.split("-", maxsplit=1)[0]
    kin = [(file, rule) for file, rule in rules if rule.id.split("-", maxsplit=1)[0] == family]
    group = group or _most(Path(each).parent.name for each, _ in kin) or _ELSEWHERE
    file = pack / group / f"{name}.toml"
    file.parent.mkdir(exist_ok=True)
    credential = _most(rule.credential for _, rule in kin) or family
    with file.open("x", encoding="utf-8") as writing:
        writing.write(text(name, credential, drafted))
    if not (pack / schema.RULE_FILE).exists():
        (pack / schema.RULE_FILE).write_text(schema.text(Rule), encoding="utf-8")
    return file, _rivals([rule for _, rule in rules], drafted)


def text(name: str, credential: str, drafted: Draft | None) -> str:
    """Return the text of a new rule's file."""
    known: dict[str, Any] = {
        "id": name,
        "credential": credential,
        "verdict": drafted.verdict if drafted else "",
        "confidence": "likely",
        "status": "stable",
        "pattern": drafted.pattern if drafted else "",
    }
    example: dict[str, Any] = {"log": drafted.text if drafted else ""}
    if drafted and drafted.captures:
        example["captures"] = drafted.captures
    tables: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
        "examples": (Example, example),
        "counter_examples": (CounterExample, {"log": "", "reason": ""}),
    }
    keys = [key for key in Rule.model_fields if key not in tables]
    parts = [_HEADER.format(schema.RULE_FILE)]
    parts += [_key(Rule, key, known, kept=key in known or key in _WRITTEN_EMPTY) for key in keys]
    for table, (model, values) in tables.items():
        parts.append(f"\n{_comment(Rule.model_fields[table].description)}[[{table}]]\n")
        parts += [_key(model, key, values, kept=key in values) for key in model.model_fields]
    return "".join(parts)


def shown(file: Path) -> str:
    """Return a path as a person would type it: from the current folder on, if it lies there."""
    here = Path.cwd().resolve()
    return str(file.resolve().relative_to(here)) if file.resolve().is_relative_to(here) else str(file)


def _key(model: type[BaseModel], key: str, values: dict[str, Any], *, kept: bool) -> str:
    field = model.model_fields[key]
    default = "" if field.is_required() else field.get_default(call_default_factory=True)
    empty = [] if key == "references" else default
    line = f"{key} = {_toml(values.get(key, empty), long=key == 'pattern')}"
    return f"{_comment(field.description)}{'' if kept else '# '}{line}\n"


def _comment(said: str | None) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(said or "", _COLUMNS))


def _toml(value: Any, *, long: bool = False) -> str:
    """Write a value as TOML; text without escapes wherever it can be."""
    if isinstance(value, dict):
        inside = ", ".join(f"{key} = {_toml(each)}" for key, each in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if not isinstance(value, str):
        return json.dumps(value)
    plain = value.isprintable() and not value.endswith("'")
    if value and plain and long and "'''" not in value:
        return f"'''{value}'''"
    if value and plain and "'" not in value and ("\\" in value or '"' in value):
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False)


def _most(names: Iterable[str]) -> str:
    """Return what is named most often, empty when nothing is."""
    counted = Counter(names).most_common(1)
    return counted[0][0] if counted else ""


def _rivals(rules: list[Rule], drafted: Draft | None) -> list[str]:
    """Return the rules that match the line already."""
    if drafted is None or not rules:
        return []
    found = search(by_words(rules), [drafted.text.encode()], whole=True).matches
    return [match.rule for match in found]
