"""Tiny rule packs, written to a folder as a person would."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

RULE = """\
id = "{id}"
title = "The widget key has expired"
credential = "{credential}"
verdict = "{verdict}"
confidence = "{confidence}"
status = "stable"
connection_types = []
{explanation}
pattern = '''{pattern}'''
{conditions}
references = ["https://widgets.example/errors"]

[[examples]]
log = '''{example}'''
captures = {captures}

[[counter_examples]]
log = '''{counter}'''
reason = "{reason}"
"""

DEFAULTS = {
    "id": "widget-key-expired",
    "credential": "widget",
    "verdict": "expired",
    "confidence": "certain",
    "explanation": "",
    "pattern": "WIDGET-77: key '(?<key>[^']{1,40})' has expired",
    "conditions": "",
    "example": "WIDGET-77: key 'blue' has expired",
    "captures": '{ key = "blue" }',
    "counter": "WIDGET-77: key 'blue' is fine",
    "reason": "the key is fine",
}


def write(folder: Path, **changes: str) -> Path:
    """Write one rule, the usual one but for the changes; return the pack's folder."""
    values = {**DEFAULTS, **changes}
    return write_text(folder, values["id"], RULE.format(**values))


def write_text(folder: Path, name: str, text: str) -> Path:
    group = folder / "widgets"
    group.mkdir(parents=True, exist_ok=True)
    (group / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder
