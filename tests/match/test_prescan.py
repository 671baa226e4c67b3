from __future__ import annotations

import random
from typing import TYPE_CHECKING

from triage import match
from triage.match import load, prescan

if TYPE_CHECKING:
    import pytest


def decorated(example: str, seed: int) -> bytes:
    """Return an example as real logs show it: stamped, coloured, overprinted, deep in long lines."""
    chance = random.Random(seed)
    lines = []
    for line in example.encode().split(b"\n"):
        at = chance.randrange(len(line) + 1)
        coloured = line[:at] + chance.choice([b"", b"\x1b[0m", b"\x1b[1;31m", b"\x00", b"^[[K"]) + line[at:]
        stamp = chance.choice([b"", b"2026-11-21T03:12:00.1234567Z "])
        before = chance.choice([b"", b" 10%\r", "é… ".encode() * 30, b"\xff\xfe ", b"x " * 40_000])
        lines.append(stamp + before + coloured + chance.choice([b"", b"\r", b" " + b"y" * 50_000]))
    noise = b"a line that means nothing 401 denied expired\n" * chance.choice([0, 1, 300])
    return noise + b"\n".join(lines)


def test_both_scanners_find_every_example_of_every_shipped_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [rule for _, rule in load.read(match.shipped_rules())[0]]
    fast = match.build(rules)
    assert isinstance(fast.scanner, prescan.PatternScanner)
    with monkeypatch.context() as without_wheel:
        without_wheel.setattr(prescan, "hs", None)
        portable = match.build(rules)
    assert isinstance(portable.scanner, prescan.WordScanner)
    for position, rule in enumerate(rules):
        log = decorated(rule.examples[position % len(rule.examples)].log, position)
        one, other = (match.search(pack, [log], whole=True).matches for pack in (fast, portable))
        assert one == other
        if b"\r" not in log and len(log) < 4000:  # what is told apart by lines may hide when lines are long
            assert rule.id in {found.rule for found in one}
