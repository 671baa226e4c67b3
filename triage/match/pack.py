"""The rules, made ready to search with."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from triage.match import context, linear, prescan
from triage.match.rule import compiled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import regex

    from triage.match.prescan import Scanner
    from triage.match.rule import Rule


@dataclass(frozen=True)
class Pack:
    """The rules, and what points at the places of a log that one of them may fit.

    The scanner's positions beyond the rules' are those of `context.MARKS`.
    """

    rules: tuple[Rule, ...]
    scanner: Scanner = field(repr=False)
    compiled: dict[str, regex.Pattern[str]] = field(repr=False, default_factory=dict)

    def pattern(self, source: str) -> regex.Pattern[str]:
        """Return a compiled pattern; compiled when first needed."""
        if source not in self.compiled:
            self.compiled[source] = compiled(source)
        return self.compiled[source]


@dataclass(frozen=True)
class Prepared:
    """What takes time to make of rules and can be kept: for either scanner."""

    words: dict[str, list[int]]
    database: bytes = b""  # empty where Hyperscan has no wheel

    def scanner(self) -> Scanner:
        """Return the fastest scanner that this machine has."""
        if self.database:
            return prescan.PatternScanner(self.database)
        return prescan.WordScanner({word.encode(): rules for word, rules in self.words.items()})


def build(rules: Sequence[Rule]) -> Pack:
    """Make a pack of rules that are known to be right."""
    return Pack(tuple(rules), prepare(rules).scanner())


def alone(rule: Rule) -> Pack:
    """Make a pack of one rule, quickly: it is searched by words."""
    return Pack((rule,), Prepared(_words([linear.parse(rule.pattern)])).scanner())


def prepare(rules: Sequence[Rule]) -> Prepared:
    """Do once for a pack what takes time."""
    parsed = [linear.parse(pattern) for pattern in (*(rule.pattern for rule in rules), *context.MARKS)]
    database = b""
    with suppress(ImportError):
        database = prescan.compiled([linear.superset(parts) for parts in parsed])
    return Prepared(_words(parsed), database)


def _words(parsed: Iterable[list[linear.Part]]) -> dict[str, list[int]]:
    words: dict[str, list[int]] = {}
    for position, parts in enumerate(parsed):
        for word in linear.required(parts):
            words.setdefault(word.decode(), []).append(position)
    return words
