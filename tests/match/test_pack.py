from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.match import packs
from triage import match
from triage.errors import RulePackError, UsageError
from triage.match import context, linear

if TYPE_CHECKING:
    from pathlib import Path


def test_a_right_rule_is_loaded(tmp_path: Path) -> None:
    folder = packs.write(tmp_path)
    assert match.check(folder) == []
    assert [rule.id for rule in match.load_pack(folder).rules] == ["widget-key-expired"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"verdict": "lapsed"}, "verdict: Input should be"),
        ({"confidence": "sure"}, "confidence: Input should be"),
        ({"explanation": 'unles = ["x"]'}, "unles: no such key; did you mean 'unless'?"),
        ({"pattern": "-77"}, "pattern: points at too many lines"),
        ({"pattern": "7777"}, "pattern: points at too many lines"),
        ({"pattern": "77: .{0,40}|WIDGET-77"}, "pattern: points at too many lines"),
        ({"pattern": "(?:WIDGET)?-77"}, "pattern: points at too many lines"),
        ({"pattern": r"WIDGET-77: (.)\1"}, "pattern: refers back to a group"),
        ({"pattern": r"WIDGET-77: .{0,200}\S{0,100}"}, "pattern: has two repeats side by side"),
        ({"pattern": "WIDGET-77: (key"}, "pattern: is no valid regular expression"),
        ({"pattern": "WIDGET-77: (?:[a-z']+ ?)*expired"}, "pattern: repeats a group that itself repeats"),
        ({"conditions": "unless = ['(']"}, "unless: is no valid regular expression"),
        ({"example": "WIDGET-77 is well"}, "examples.1: the rule does not match it"),
        (
            {"example": "a\nWIDGET-77: key 'blue' has expired"},
            "examples.1: the rule matches line 2, not line 1",
        ),
        (
            {"example": "WIDGET-77: key 'blue' has expired\nWIDGET-77: key 'blue' has expired"},
            "examples.1: the rule matches more than once (lines 1, 2)",
        ),
        (
            {"captures": '{ key = "red" }'},
            "examples.1: captures {'key': 'blue'}, but the example says {'key': 'red'}",
        ),
        ({"counter": "WIDGET-77: key 'red' has expired"}, "counter_examples.1: the rule matches it"),
        ({"verdict": "look-alike"}, "explanation: a look-alike must say what it is instead"),
        ({"conditions": 'yields_to = ["nobody"]'}, "yields_to: there is no rule 'nobody'"),
        (
            {"example": "WIDGET-77: key 'blue' has expired; password=" + "Tr0ub4dor"},
            "examples.1: holds what looks like a real secret",
        ),
        (
            {"pattern": "WIDGET-77: key '(?<key>blue)' has expired|WIDGET-77.*7.*7.*7.*7.*7.*7.*z"},
            "pattern: takes longer than",
        ),
    ],
)
def test_a_wrong_rule_is_refused_with_file_key_and_what_to_do(
    tmp_path: Path, changes: dict[str, str], problem: str
) -> None:
    folder = packs.write(tmp_path, **changes)
    with pytest.raises(RulePackError) as refused:
        match.load_pack(folder)
    assert f"widgets/widget-key-expired.toml: {problem}" in str(refused.value)
    assert match.check(folder) == refused.value.problems


@pytest.mark.parametrize("table", ["examples", "counter_examples"])
def test_a_rule_without_proof_is_refused(tmp_path: Path, table: str) -> None:
    text = packs.RULE.format(**packs.DEFAULTS).replace(f"[[{table}]]", "[[elsewhere]]")
    folder = packs.write_text(tmp_path, "widget-key-expired", text)
    assert any(f"{table}: is missing" in problem for problem in match.check(folder))


def test_all_mistakes_of_all_rules_are_told_at_once(tmp_path: Path) -> None:
    packs.write(tmp_path, id="one", verdict="lapsed", confidence="sure")
    packs.write_text(tmp_path, "two", "id = ")
    packs.write(tmp_path, id="three", counter="WIDGET-77: key 'red' has expired")
    problems = match.check(tmp_path)
    assert [p.split(":")[0] for p in problems] == ["widgets/one.toml"] * 2 + [
        "widgets/two.toml",
        "widgets/three.toml",
    ]
    assert "not valid TOML" in problems[2]


def test_an_id_is_its_files_name_and_nobody_elses(tmp_path: Path) -> None:
    packs.write(tmp_path)
    packs.write_text(tmp_path, "other", packs.RULE.format(**packs.DEFAULTS))
    problems = match.check(tmp_path)
    assert (
        "widgets/widget-key-expired.toml: id: 'widget-key-expired' is taken by widgets/other.toml" in problems
    )
    assert "widgets/other.toml: id: is 'widget-key-expired' but must be the file's name, 'other'" in problems


def test_rules_that_claim_one_text_as_surely_must_agree_who_yields(tmp_path: Path) -> None:
    packs.write(tmp_path)
    rival = {"id": "widget-rejected", "verdict": "rejected"}
    packs.write(tmp_path, **rival)
    assert any("'widget-rejected' matches it too, as surely" in problem for problem in match.check(tmp_path))
    packs.write(tmp_path, **rival, conditions='yields_to = ["widget-key-expired"]')
    assert match.check(tmp_path) == []


def test_a_folder_without_rules_or_no_folder_is_told(tmp_path: Path) -> None:
    assert "holds no rule" in match.check(tmp_path)[0]
    with pytest.raises(UsageError, match="is no folder"):
        match.load_pack(tmp_path / "gone")


def test_every_mark_is_pointed_at_by_words() -> None:
    for mark in context.MARKS:
        parts = linear.parse(mark)
        assert linear.required(parts) or linear.sieve(parts, ()), mark
