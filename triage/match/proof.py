"""Prove rules by their own examples, by those of the others, and by hostile lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triage.domain import Verdict
from triage.match import engine, linear, redact
from triage.match.pack import alone, build
from triage.match.rule import compiled
from triage.match.window import REACH

if TYPE_CHECKING:
    from triage.match.pack import Pack
    from triage.match.rule import Rule

_HOSTILE_SECONDS = 0.25
_HOSTILE_LINE = 2 * REACH  # no part of a line that rules are asked about is longer
_HOSTILE_EXAMPLES = 3
_FILLERS = ("", " ", "a", "'", "x y ", "\\")


def prove(rules: list[tuple[str, Rule]]) -> list[str]:
    """Run every rule on its own examples, on the others' and on hostile lines."""
    problems: list[str] = []
    everyone = build([rule for _, rule in rules])
    known = {rule.id for _, rule in rules}
    for name, rule in rules:
        pack = alone(rule)
        problems += [f"{name}: {p}" for p in _own_words(rule, known)]
        problems += [f"{name}: {p}" for p in _examples(rule, pack)]
        problems += [f"{name}: {p}" for p in _rivals(rule, everyone)]
        problems += [f"{name}: {p}" for p in _hostile(rule, pack)]
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


def _examples(rule: Rule, pack: Pack) -> list[str]:
    problems = []
    for number, example in enumerate(rule.examples, 1):
        where = f"examples.{number}"
        found = engine.search(pack, [example.log.encode()], whole=True).matches
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
        if engine.search(pack, [counter.log.encode()], whole=True).matches:
            problems.append(f"counter_examples.{number}: the rule matches it, though {counter.reason}")
    return problems


def _rivals(rule: Rule, everyone: Pack) -> list[str]:
    """Another rule may match an example only when it is clear which of the two wins."""
    problems = []
    yields = {other.id: other.yields_to for other in everyone.rules}
    for number, example in enumerate(rule.examples, 1):
        others = engine.search(everyone, [example.log.encode()], whole=True).matches
        if rule.id not in {other.rule for other in others}:
            problems.append(
                f"examples.{number}: the scan of the whole pack does not point at it; report this"
            )
        for other in others:
            same = (other.credential, other.verdict) == (rule.credential, rule.verdict)
            if other.rule in rule.yields_to or rule.id in yields[other.rule]:
                continue
            if other.rule != rule.id and not same and other.confidence.rank >= rule.confidence.rank:
                problems.append(
                    f"examples.{number}: {other.rule!r} matches it too, as surely; "
                    f"one of the two must yield (yields_to) or be more exact"
                )
    return problems


def _hostile(rule: Rule, pack: Pack) -> list[str]:
    """Feed lines made of the rule's own words, repeated, to find a pattern that takes for ever."""
    words = [word.decode() for word in linear.required(linear.parse(rule.pattern))]
    words += [example.log.splitlines()[0][:80] for example in rule.examples[:_HOSTILE_EXAMPLES]]
    for word in words:
        for filler in _FILLERS:
            line = ((word + filler) * (_HOSTILE_LINE // (len(word) + len(filler)) + 1))[:_HOSTILE_LINE]
            for pattern in (rule.pattern, *rule.unless, *rule.near, *rule.not_near, *rule.followed_by):
                try:
                    pack.pattern(pattern).search(line, timeout=_HOSTILE_SECONDS)
                except TimeoutError:
                    key = "pattern" if pattern == rule.pattern else "conditions"
                    return [f"{key}: takes longer than {_HOSTILE_SECONDS} s on a hostile line: {pattern}"]
    return []
