"""How far a pattern gets on a line that it does not match: the place where the two part."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from triage.match import clean, redact
from triage.match.linear import parse, required
from triage.match.rule import compiled

if TYPE_CHECKING:
    import regex

_SECONDS = 0.05  # for each beginning of a pattern
_SHOWN = 60  # characters of a pattern or a line that are shown
_FIT_MIN = 4  # characters of a line that are more than chance
_WORD = re.compile(r"[a-z]{4,}")
_NEAREST = 3
_DEPTH = 4


def told(pattern: str, text: str) -> str:
    """Say how much of the pattern the line, masked, fits, and what comes next in both."""
    text = redact.mask(text)
    best, fit = 0, None
    for end, beginning in _beginnings(pattern):
        found = _longest(beginning, text)
        if found and len(found.group()) >= max(_FIT_MIN, len(fit.group()) if fit else 0):
            best, fit = end, found
    if fit is None:
        return f"nothing of the line fits its beginning, ‹{_start(pattern)}›"
    return (
        f"it fits as far as ‹{_end(pattern[:best])}›, then wants ‹{_start(pattern[best:])}› "
        f"{_where(text[fit.end() :])}"
    )


def nearest(pattern: str, log: bytes) -> list[tuple[int, str]]:
    """Return the few lines that share most words with what every match of a pattern holds."""
    wanted = set(_WORD.findall(b" ".join(required(parse(pattern))).decode()))
    lines = enumerate(clean.shown(log), 1)
    shared = [(len(wanted & set(_WORD.findall(text.lower()))), number, text) for number, text in lines]
    best = sorted((each for each in shared if each[0]), key=lambda each: (-each[0], each[1]))
    return sorted((number, text) for count, number, text in best[:_NEAREST] if 2 * count >= best[0][0])


@lru_cache(maxsize=1)
def _beginnings(pattern: str) -> list[tuple[int, regex.Pattern[str]]]:
    """Return the beginnings of a pattern that make patterns, and where they end."""
    found = []
    for end in range(1, len(pattern)):
        if pattern[:end].endswith(("|", "(", "(?:", r"\b")):
            continue  # what is empty fits anything
        for depth in range(_DEPTH):  # within groups that the rest would close
            with suppress(ValueError):
                found.append((end, compiled(pattern[:end] + ")" * depth)))
                break
    return found


def _longest(beginning: regex.Pattern[str], text: str) -> regex.Match[str] | None:
    with suppress(TimeoutError):
        return max(beginning.finditer(text, timeout=_SECONDS), key=lambda m: len(m.group()), default=None)
    return None


def _where(given: str) -> str:
    return f"where the line has ‹{_start(given)}›" if given.strip() else "where the line ends"


def _start(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _end(text: str) -> str:
    return text if len(text) <= _SHOWN else "…" + text[-_SHOWN:]
