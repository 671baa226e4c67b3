"""Prove rules by their own examples, by those of the others, and by hostile lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triage.domain import Verdict
from triage.match import engine, redact
from triage.match.pack import build
from triage.match.rule import compiled

if TYPE_CHECKING:
    from triage.match.pack import Pack
    from triage.match.rule import Rule

_HOSTILE_SECONDS = 0.5


def prove(rules: list[tuple[str, Rule]]) -> list[str]:
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
    if rule.time and not {"not_after", "not_before"} & set(compiled(rule.pattern).groupindex):
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
        if not found:
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
