"""The JSON Schemas that editors read: the shipped files are what the code says, and the rules name them."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.test_cli import triage
from triage.authoring import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

RULES = Path(__file__).parent.parent / "rules"


@pytest.mark.parametrize("name", schema.FILES)
def test_a_shipped_schema_is_what_the_models_say(name: str) -> None:
    file = RULES / name
    wanted = schema.text(schema.FILES[name])
    if os.environ.get("TRIAGE_BLESS"):
        file.write_text(wanted, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == wanted, (
        "run TRIAGE_BLESS=1 python3 -m tests tests/test_schema.py"
    )


def keys(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, each in node.get("properties", {}).items():
        yield path + name, each
        yield from keys(each.get("items", each), f"{path}{name}.")


@pytest.mark.parametrize("name", schema.FILES)
def test_every_key_is_explained_once_and_in_place(name: str) -> None:
    found = dict(keys(json.loads(schema.text(schema.FILES[name]))))
    assert [key for key, each in found.items() if not each.get("description")] == []
    assert "$ref" not in schema.text(schema.FILES[name])


def fits(value: Any, node: dict[str, Any]) -> bool:
    """Check a value as far as the shipped schemas go."""
    if choices := node.get("anyOf"):
        return any(fits(value, each) for each in choices)
    kinds = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
    if not isinstance(value, kinds[node["type"]]) or value not in node.get("enum", [value]):
        return False
    if isinstance(value, list):
        return len(value) >= node.get("minItems", 0) and all(fits(each, node["items"]) for each in value)
    if isinstance(value, dict):
        rest = node.get("additionalProperties", {})
        known = node.get("properties", {})
        if not set(node.get("required", [])) <= set(value):
            return False
        return all((each := known.get(name, rest)) and fits(inner, each) for name, inner in value.items())
    return len(value) >= node.get("minLength", 0) if isinstance(value, str) else True


@pytest.mark.parametrize("name", schema.FILES)
def test_every_shipped_file_fits_its_schema(name: str) -> None:
    shape = json.loads((RULES / name).read_text(encoding="utf-8"))
    files = [f for f in RULES.rglob("*.toml") if ("renewal" in name) == (f.parent.name == "renewal")]
    wrong = [str(f) for f in files if not fits(tomllib.loads(f.read_text(encoding="utf-8")), shape)]
    assert wrong == []
    assert not fits({"id": "x"}, shape)


def test_the_command_prints_the_shipped_schemas() -> None:
    for arguments, name in ((["rules", "schema"], schema.RULE_FILE), (["rules", "schema", "--recipes"], schema.RECIPE_FILE)):  # fmt: skip
        assert triage(*arguments).stdout == (RULES / name).read_bytes()


def test_every_shipped_file_names_its_schema_to_editors() -> None:
    without = []
    for file in RULES.rglob("*.toml"):
        header = file.read_text(encoding="utf-8").split("\n", 1)[0]
        named = file.parent / header.removeprefix("#:schema ")
        wanted = schema.RECIPE_FILE if file.parent.name == "renewal" else schema.RULE_FILE
        if not header.startswith("#:schema ") or named.resolve() != (RULES / wanted).resolve():
            without.append(f"{file.relative_to(RULES)}: {header}")
    assert without == []
