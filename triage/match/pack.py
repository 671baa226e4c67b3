"""The rule pack: read, check, and report every problem of every rule at once."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import regex
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

import triage
from triage.domain import Confidence, Verdict
from triage.errors import RulePackError, UsageError
from triage.match import engine, redact

RECIPES = "renewal"  # the folder beside the rules that holds no rules
_LITERAL_MIN = 4
_PATTERN_MAX = 1024
_HOSTILE_SECONDS = 0.5
_REPEATED_GROUP = regex.compile(r"\((?:\?(?::|<\w+>|P<\w+>))?[^()]*[*+}][^()]*\)(?:[*+]|\{\d+,\d*\})")


class Example(BaseModel):
    """Text that a rule must match, where, and what it must capture."""

    model_config = ConfigDict(extra="forbid")
    log: str
    line: int = 1
    captures: dict[str, str] = Field(default_factory=dict)


class CounterExample(BaseModel):
    """Text that a rule must not match, and why not."""

    model_config = ConfigDict(extra="forbid")
    log: str
    reason: str = Field(min_length=1)


class Rule(BaseModel):
    """One file of rules/, its keys in the order they stand there."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str = Field(min_length=1)
    credential: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    verdict: Verdict
    confidence: Confidence
    status: Literal["stable", "experimental"]
    connection_types: list[str] = Field(default_factory=list)
    explanation: str = ""
    advice: str = ""
    literals: list[str] = Field(min_length=1)
    pattern: str = Field(min_length=1, max_length=_PATTERN_MAX)
    unless: list[str] = Field(default_factory=list)
    near: list[str] = Field(default_factory=list)
    not_near: list[str] = Field(default_factory=list)
    followed_by: list[str] = Field(default_factory=list)
    within: int = Field(default=10, ge=1, le=50)
    time: Literal["", "expired", "early", "drift"] = ""
    yields_to: list[str] = Field(default_factory=list)
    false_positives: list[str] = Field(default_factory=list)
    references: list[str] = Field(min_length=1)
    examples: list[Example] = Field(min_length=1)
    counter_examples: list[CounterExample] = Field(min_length=1)

    @field_validator("literals")
    @classmethod
    def _selective(cls, literals: list[str]) -> list[str]:
        for literal in literals:
            if len(literal) < _LITERAL_MIN or literal.isdigit():
                raise ValueError(
                    f"{literal!r} points at too many lines: use 4 characters or more, not only digits"
                )
        return literals

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        _compile(pattern)
        return pattern

    @field_validator("unless", "near", "not_near", "followed_by")
    @classmethod
    def _all_compile(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            _compile(pattern)
        return patterns


@dataclass(frozen=True)
class Pack:
    """The rules, ready to search with."""

    rules: tuple[Rule, ...]
    literals: dict[bytes, tuple[int, ...]] = field(repr=False, default_factory=dict)  # lower case → rules
    compiled: dict[str, regex.Pattern[str]] = field(repr=False, default_factory=dict)

    def pattern(self, source: str) -> regex.Pattern[str]:
        """Return a compiled pattern; compiled when first needed."""
        if source not in self.compiled:
            self.compiled[source] = _compile(source)
        return self.compiled[source]


def shipped_rules() -> Path:
    """Return the folder of the shipped pack: inside the wheel, or beside the package in a checkout."""
    package = Path(triage.__file__).parent
    inside = package / "rules"
    return inside if inside.is_dir() else package.parent / "rules"


def load_pack(path: Path | None = None) -> Pack:
    """Read the shipped pack, or the one in a folder, which is checked completely.

    Raises RulePackError with every problem found, UsageError when the folder does not exist.
    """
    rules, problems = _read(path or shipped_rules())
    if path is not None and not problems:
        problems = _prove(rules)
    if problems:
        raise RulePackError(problems)
    return build([rule for _, rule in rules])


def check(path: Path | None = None) -> list[str]:
    """Return every problem of the pack as `file: key: what is wrong`."""
    rules, problems = _read(path or shipped_rules())
    return problems + _prove(rules)


def build(rules: list[Rule]) -> Pack:
    """Make a pack of rules that are known to be right."""
    literals: dict[bytes, list[int]] = {}
    for index, rule in enumerate(rules):
        for literal in rule.literals:
            literals.setdefault(literal.lower().encode(), []).append(index)
    return Pack(tuple(rules), {key: tuple(value) for key, value in literals.items()})


def _compile(pattern: str) -> regex.Pattern[str]:
    if _REPEATED_GROUP.search(pattern):
        raise ValueError(
            "repeats a group that itself repeats; such a pattern can take for ever on a hostile line"
        )
    try:
        return regex.compile(pattern, regex.IGNORECASE | regex.MULTILINE)  # near: ^ and $ of lines
    except regex.error as error:
        raise ValueError(f"is no valid regular expression: {error}") from None


def _read(folder: Path) -> tuple[list[tuple[str, Rule]], list[str]]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; rules.path (--rules) must name the folder of a rule pack.")
    rules: list[tuple[str, Rule]] = []
    problems: list[str] = []
    seen: dict[str, str] = {}
    files = sorted(f for f in folder.rglob("*.toml") if RECIPES not in f.relative_to(folder).parts[:1])
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


def _prove(rules: list[tuple[str, Rule]]) -> list[str]:
    """Run every rule on its own examples, on the others' and on hostile lines."""
    problems: list[str] = []
    everyone = build([rule for _, rule in rules])
    known = {rule.id for _, rule in rules}
    for name, rule in rules:
        alone = build([rule])
        problems += [f"{name}: {p}" for p in _own_words(rule, known)]
        problems += [f"{name}: {p}" for p in _examples(rule, alone)]
        problems += [f"{name}: {p}" for p in _rivals(rule, everyone)]
        problems += [f"{name}: {p}" for p in _hostile(rule, alone)]
    return problems


def _own_words(rule: Rule, known: set[str]) -> list[str]:
    problems = []
    if rule.verdict is Verdict.LOOK_ALIKE and not rule.explanation:
        problems.append("explanation: a look-alike must say what it is instead")
    problems += [f"yields_to: there is no rule {other!r}" for other in rule.yields_to if other not in known]
    if rule.time and not {"not_after", "not_before"} & set(_compile(rule.pattern).groupindex):
        problems.append(f"time: {rule.time!r} needs a capture named not_after or not_before in the pattern")
    for number, example in enumerate(rule.examples, 1):
        if redact.mask(example.log) != example.log:
            problems.append(f"examples.{number}: holds what looks like a real secret; replace it by ***")
    return problems


def _examples(rule: Rule, alone: Pack) -> list[str]:
    problems = []
    for number, example in enumerate(rule.examples, 1):
        where = f"examples.{number}"
        found = engine.search(alone, [example.log.encode()], whole=True).matches
        if not any(literal.lower() in example.log.lower() for literal in rule.literals):
            problems.append(f"{where}: holds none of the rule's literals")
        elif not found:
            problems.append(f"{where}: the rule does not match it")
        elif len(found) > 1:
            lines = ", ".join(str(match.line) for match in found)
            problems.append(f"{where}: the rule matches more than once (lines {lines}); keep one")
        elif found[0].line != example.line:
            problems.append(f"{where}: the rule matches line {found[0].line}, not line {example.line}")
        elif dict(found[0].captures) != example.captures:
            problems.append(
                f"{where}: captures {dict(found[0].captures)!r}, but the example says {example.captures!r}"
            )
    for number, counter in enumerate(rule.counter_examples, 1):
        if engine.search(alone, [counter.log.encode()], whole=True).matches:
            problems.append(f"counter_examples.{number}: the rule matches it, though {counter.reason}")
    return problems


def _rivals(rule: Rule, everyone: Pack) -> list[str]:
    """Another rule may match an example only when it is clear which of the two wins."""
    problems = []
    yields = {other.id: other.yields_to for other in everyone.rules}
    for number, example in enumerate(rule.examples, 1):
        for other in engine.search(everyone, [example.log.encode()], whole=True).matches:
            same = (other.credential, other.verdict) == (rule.credential, rule.verdict)
            if other.rule in rule.yields_to or rule.id in yields[other.rule]:
                continue
            if other.rule != rule.id and not same and other.confidence.rank >= rule.confidence.rank:
                problems.append(
                    f"examples.{number}: {other.rule!r} matches it too, as surely; "
                    f"one of the two must yield (yields_to) or be more exact"
                )
    return problems


def _hostile(rule: Rule, alone: Pack) -> list[str]:
    """Feed lines made of the rule's own words, repeated, to find a pattern that takes for ever."""
    words = [literal.lower() for literal in rule.literals] + [
        e.log.splitlines()[0][:80] for e in rule.examples
    ]
    for word in words:
        for filler in ("", " ", "a", "'", "x y ", "\\"):
            line = (word + filler) * (20_000 // (len(word) + len(filler)) + 1)
            for pattern in (rule.pattern, *rule.unless, *rule.near, *rule.not_near, *rule.followed_by):
                try:
                    alone.pattern(pattern).search(line[:20_000], timeout=_HOSTILE_SECONDS)
                except TimeoutError:
                    return [f"pattern: takes longer than {_HOSTILE_SECONDS} s on a hostile line of 20 kB"]
    return []
