"""Point at the places of a log that a rule may fit: one pass over the bytes, for all rules at once.

Hyperscan does it where its wheel exists; elsewhere a search for the words that the rules require finds
at least the same places, only slower. Both may point at too many places, never at too few.
"""

from __future__ import annotations

import threading
from importlib import metadata
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

try:
    import hyperscan as hs
except ImportError:  # no wheel for this platform
    hs = None  # type: ignore[assignment]

# What loading a kept database raises when it is damaged or another version's.
Unusable: type[Exception] = hs.HyperscanError if hs is not None else ImportError
Place = tuple[int, int]


class Scanner(Protocol):
    """What finds places: (an offset within or right after what was found, the rule's position)."""

    def places(self, text: bytes, start: int) -> list[Place]:
        """Return the places of text[start:]; offsets count from the beginning of the text."""
        ...


class PatternScanner:
    """Looks for whole patterns, as far as a linear scan can express them."""

    def __init__(self, database: bytes) -> None:
        """Take a database that `compiled` has made with this version of Hyperscan."""
        self._database = hs.loadb(database, hs.HS_MODE_BLOCK)
        self._threads = threading.local()  # a scratch space belongs to one thread

    def places(self, text: bytes, start: int) -> list[Place]:
        """See Scanner."""
        found: list[Place] = []
        add = found.append

        def on_match(rule: int, _from: int, end: int, _flags: int, _context: object) -> None:
            add((start + end, rule))

        if not hasattr(self._threads, "scratch"):
            self._threads.scratch = hs.Scratch(self._database)
        # A view is taken as well as bytes, though the annotations do not say so.
        view: bytes = memoryview(text)[start:] if start else text  # type: ignore[assignment]
        self._database.scan(view, match_event_handler=on_match, scratch=self._threads.scratch)
        return found


class WordScanner:
    """Looks for required words one after the other: needs the standard library alone, a tenth as fast."""

    def __init__(self, words: Mapping[bytes, Sequence[int]]) -> None:
        """Take lower-case words, each with the positions of the rules that it points at."""
        self._words = words

    def places(self, text: bytes, start: int) -> list[Place]:
        """See Scanner."""
        low = text[start:].lower()
        found: list[Place] = []
        for word, rules in self._words.items():
            at = low.find(word)
            while at >= 0:
                end = at + len(word)
                found += [(start + end, rule) for rule in rules]
                at = low.find(word, end)
        return sorted(found)


def compiled(patterns: Sequence[str]) -> bytes:
    """Return a database of patterns, to be kept; ImportError where Hyperscan has no wheel."""
    if hs is None:
        raise ImportError("hyperscan")
    database = hs.Database(mode=hs.HS_MODE_BLOCK)
    database.compile(
        expressions=[pattern.encode() for pattern in patterns],
        ids=list(range(len(patterns))),
        flags=[hs.HS_FLAG_CASELESS] * len(patterns),
    )
    return bytes(hs.dumpb(database))


def version() -> str:
    """Return what a kept database must be renewed with: the engine's version, or nothing without it."""
    return metadata.version("hyperscan") if hs is not None else ""
