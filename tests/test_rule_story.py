"""What rules/README.md tells a newcomer to do works, word for word."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.test_cli import triage
from triage.match.rule import CounterExample, Example, Rule

if TYPE_CHECKING:
    import pytest

RULES = Path(__file__).parent.parent / "rules"
README = RULES / "README.md"
BLOCK = re.compile(
    r"^```(?P<kind>text|toml|console) ?(?P<name>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
COMMAND = re.compile(r"^\$ triage (?P<arguments>.*)\n(?P<output>(?:(?!\$ ).*\n)*)", re.MULTILINE)


def test_the_story_of_a_new_rule_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RULES, "rules")
    told = ran = 0
    written: Path | None = None
    for block in BLOCK.finditer(README.read_text(encoding="utf-8")):
        if block["kind"] == "text":
            Path(block["name"]).write_text(block["text"], encoding="utf-8")
        elif block["kind"] == "toml":
            (written,) = Path("rules").rglob("feedctl-token-expired.toml")
            written.write_text(block["text"], encoding="utf-8")
        else:
            told += block["text"].count("$ ")
            for command in COMMAND.finditer(block["text"]):
                done = triage(*command["arguments"].split(), settings={"TRIAGE_RULES__PATH": "rules"})
                assert (done.stdout + done.stderr).decode() == command["output"], command["arguments"]
                ran += 1
    assert written is not None
    assert (told, ran) == (5, 5)


def test_every_key_of_a_rule_is_explained() -> None:
    text = README.read_text(encoding="utf-8").split("## What the keys mean")[1].split("## Recipes")[0]
    for model in (Rule, Example, CounterExample):
        for key in model.model_fields:
            assert f"`{key}`" in text, key
