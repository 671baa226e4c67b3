from __future__ import annotations

import random

import pytest

from triage import match
from triage.match import load, prescan
from triage.match.window import REACH


def decorated(example: str, seed: int) -> bytes:
    """Return an example as real logs show it: stamped, coloured, overprinted, deep in long lines."""
    chance = random.Random(seed)
    lines = []
    for line in example.encode().split(b"\n"):
        at = chance.randrange(len(line) + 1)
        coloured = line[:at] + chance.choice([b"", b"\x1b[0m", b"\x1b[1;31m", b"\x00", b"^[[K"]) + line[at:]
        stamp = chance.choice([b"", b"2026-11-21T03:12:00.1234567Z "])
        before = chance.choice([b"", b" 10%\r", "é… ".encode() * 30, b"\xff\xfe ", b"x " * 2 * REACH])
        lines.append(stamp + before + coloured + chance.choice([b"", b"\r", b" " + b"y" * 3 * REACH]))
    noise = b"a line that means nothing 401 denied expired\n" * chance.choice([0, 1, 100])
    return noise + b"\n".join(lines)


@pytest.fixture(scope="module")
def packs() -> tuple[match.Pack, match.Pack]:
    """The shipped rules, made ready for either scanner."""
    rules = [rule for _, rule in load.read(match.shipped_rules())[0]]
    fast = match.build(rules)
    assert isinstance(fast.scanner, prescan.PatternScanner)
    with pytest.MonkeyPatch.context() as without_wheel:
        without_wheel.setattr(prescan, "hs", None)
        portable = match.build(rules)
    assert isinstance(portable.scanner, prescan.WordScanner)
    return fast, portable


@pytest.mark.parametrize("part", range(8))
def test_both_scanners_find_every_example_of_every_shipped_rule(
    packs: tuple[match.Pack, match.Pack], part: int
) -> None:
    for position, rule in list(enumerate(packs[0].rules))[part::8]:
        log = decorated(rule.examples[position % len(rule.examples)].log, position)
        one, other = (match.search(pack, [log], whole=True).matches for pack in packs)
        assert one == other
        if b"\r" not in log and len(log) < 4000 and "^" not in rule.pattern:  # else it may hide
            assert rule.id in {found.rule for found in one}
