"""Prove rules by their own examples, by those of the others, and by hostile lines."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from triage.domain import Verdict
from triage.match import engine, linear, redact
from triage.match.pack import build, by_words
from triage.match.rule import compiled
from triage.match.window import REACH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triage.match.pack import Pack
    from triage.match.rule import Rule

_HOSTILE_SECONDS = 0.25
_HOSTILE_LINE = 2 * REACH  # no part of a line that rules are asked about is longer
_HOSTILE_EXAMPLES = 3
_FILLERS = ("", " ", "a", "'", "x y ", "\\")
_RULES_A_PROCESS = 32  # at least; a process takes half a second to start
_WORTHWHILE = 2
_CHUNK = 4  # rules handed to a process at once


def prove(rules: list[tuple[str, Rule]], only: str = "") -> list[str]:
    """Run every rule on its own examples, on the others' and on hostile lines; or only the named file's."""
    everyone = build([rule for _, rule in rules])
    known = {rule.id for _, rule in rules}
    proven = [(name, rule) for name, rule in rules if only in ("", name)]
    problems: list[str] = []
    with _attacking([rule for _, rule in proven]) as slow:
        for name, rule in proven:
            pack = by_words([rule])
            problems += [f"{name}: {p}" for p in _own_words(rule, known)]
            problems += [f"{name}: {p}" for p in _examples(rule, pack)]
            problems += [f"{name}: {p}" for p in _rivals(rule, pack, everyone)]
            problems += [f"{name}: {p}" for p in next(slow)]
    return problems


@contextmanager
def _attacking(rules: list[Rule]) -> Iterator[Iterator[list[str]]]:
    """Yield each rule's `_hostile`, in order; worked out meanwhile by the machine's other cores."""
    workers = min(_cores(), len(rules) // _RULES_A_PROCESS)
    if workers < _WORTHWHILE:
        yield map(_hostile, rules)
        return
    import multiprocessing  # these take long, and most starts do without
    from concurrent.futures import ProcessPoolExecutor

    # Spawned, as every platform can: a fork would copy the locks that other threads hold.
    try:
        pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    except (ImportError, NotImplementedError, OSError):  # no semaphores here
        yield map(_hostile, rules)
        return
    with pool:
        yield pool.map(_hostile, rules, chunksize=_CHUNK)


def _cores() -> int:
    usable = getattr(os, "sched_getaffinity", None)  # Linux: what a container may use
    return len(usable(0)) if usable else os.cpu_count() or 1


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


def _rivals(rule: Rule, pack: Pack, everyone: Pack) -> list[str]:
    """Another rule may match an example only when it is clear which of the two wins."""
    problems = []
    yields = {other.id: other.yields_to for other in everyone.rules}
    for number, example in enumerate(rule.examples, 1):
        others = engine.search(everyone, [example.log.encode()], whole=True).matches
        alone = engine.search(pack, [example.log.encode()], whole=True).matches
        if alone and rule.id not in {other.rule for other in others}:
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


def _hostile(rule: Rule) -> list[str]:
    """Feed lines made of the rule's own words, repeated, to find a pattern that takes for ever."""
    words = [word.decode() for word in linear.required(linear.parse(rule.pattern))]
    words += [example.log.splitlines()[0][:80] for example in rule.examples[:_HOSTILE_EXAMPLES]]
    every = (rule.pattern, *rule.unless, *rule.near, *rule.not_near, *rule.followed_by)
    patterns = {pattern: compiled(pattern) for pattern in every}
    for word in words:
        for filler in _FILLERS:
            line = ((word + filler) * (_HOSTILE_LINE // (len(word) + len(filler)) + 1))[:_HOSTILE_LINE]
            for pattern, searcher in patterns.items():
                try:
                    searcher.search(line, timeout=_HOSTILE_SECONDS)
                except TimeoutError:
                    key = "pattern" if pattern == rule.pattern else "conditions"
                    return [f"{key}: takes longer than {_HOSTILE_SECONDS} s on a hostile line: {pattern}"]
    return []
