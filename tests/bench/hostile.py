"""Try each rule on long lines of its own words and examples: what a log could do to slow triage down."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from triage import match
from triage.match import linear

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from triage.match import Pack, Rule

LENGTH = 8_000  # bytes
_FILLERS = ("", " ", "a", "'", ".a1-", ": x ")
_WORDS = 40  # of a rule; some have hundreds, spelled much alike


@dataclass(frozen=True)
class Tried:
    """How long a search of one line took, from its bytes to masked findings."""

    seconds: float
    about: str


def tried(pack: Pack, rules: Sequence[Rule]) -> list[Tried]:
    """Search each line twice; the first time compiles what it asks for, and the quicker one counts."""
    found = []
    for rule in rules:
        for about, unit in _units(rule):
            line = [(unit * (LENGTH // len(unit) + 1))[:LENGTH].encode() + b"\n"]
            took = min(_seconds(pack, line) for _ in range(2))
            found.append(Tried(took, f"{rule.id}, {about}"))
    return found


def _seconds(pack: Pack, line: list[bytes]) -> float:
    started = time.perf_counter()
    match.search(pack, line)
    return time.perf_counter() - started


def _units(rule: Rule) -> Iterator[tuple[str, str]]:
    """Yield what lines repeat, and what to call it."""
    words = [word.decode() for word in linear.required(linear.parse(rule.pattern))][:_WORDS]
    examples = [line for each in rule.examples for line in each.log.split("\n") if line.strip()]
    longest = max(examples, key=len)
    for filler in _FILLERS:
        yield f"words + {filler!r}", "".join(word + filler for word in words)
        yield f"examples + {filler!r}", "".join(line + filler for line in examples)
        yield f"most of an example + {filler!r}", longest[: len(longest) * 3 // 4] + filler
