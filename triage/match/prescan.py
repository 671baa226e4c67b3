"""Point at the places of a log that a rule may fit: one pass over the bytes, for all rules at once.

Hyperscan does it where its wheel exists; elsewhere a search for the words that the rules require finds
at least the same places, only slower. Both may point at too many places, never at too few.
"""

from __future__ import annotations

import threading
from bisect import bisect
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from triage.match.window import REACH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

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
    """Looks for whole patterns, as far as a linear scan can express them, on lines that the sieve keeps.

    A few dozen short words are found several times as fast as the thousands that the patterns hold.
    """

    def __init__(self, sieve: bytes, patterns: bytes) -> None:
        """Take databases that `compiled` has made with this version of Hyperscan."""
        self._sieve = _Database(sieve)
        self._patterns = _Database(patterns)

    def places(self, text: bytes, start: int) -> list[Place]:
        """See Scanner."""
        hits = self._sieve.ends(text, start)
        if not hits:
            return []
        # Lines side by side, so that one scan does for all of them.
        spans = list(around(hits, text, start))
        kept = b"\n".join([text[begin:end] for begin, end in spans])
        starts = list(accumulate((end - begin + 1 for begin, end in spans[:-1]), initial=0))
        found: list[Place] = []
        for end, rule in self._patterns.places(kept, 0):
            span = bisect(starts, end) - 1
            found.append((spans[span][0] + end - starts[span], rule))
        return found


class _Database:
    """Patterns, and for each thread the space that it needs to look for them."""

    def __init__(self, database: bytes) -> None:
        self._database = hs.loadb(database, hs.HS_MODE_BLOCK)
        self._threads = threading.local()

    def __reduce__(self) -> tuple[type[_Database], tuple[bytes]]:
        return _Database, (bytes(hs.dumpb(self._database)),)

    def places(self, text: bytes, start: int) -> list[Place]:
        """Return where matches end, and the numbers of the patterns."""
        found: list[Place] = []
        add = found.append

        def on_match(number: int, _from: int, end: int, _flags: int, _context: object) -> None:
            add((start + end, number))

        self._scan(text, start, on_match)
        return found

    def ends(self, text: bytes, start: int) -> list[int]:
        """Return where matches end."""
        found: list[int] = []
        add = found.append

        def on_match(_number: int, _from: int, end: int, _flags: int, _context: object) -> None:
            add(start + end)

        self._scan(text, start, on_match)
        return found

    def _scan(self, text: bytes, start: int, on_match: Callable[[int, int, int, int, object], None]) -> None:
        if not hasattr(self._threads, "scratch"):
            self._threads.scratch = hs.Scratch(self._database)
        # A view is taken as well as bytes, though the annotations do not say so.
        view: bytes = memoryview(text)[start:] if start else text  # type: ignore[assignment]
        self._database.scan(view, match_event_handler=on_match, scratch=self._threads.scratch)


class WordScanner:
    """Looks for words one after the other: needs the standard library alone, a hundredth as fast."""

    def __init__(self, sieve: Sequence[bytes], words: Mapping[bytes, Sequence[int]]) -> None:
        """Take lower-case words: those that keep a line, and on these those that point at rules."""
        self._sieve = sieve
        self._words = words

    def places(self, text: bytes, start: int) -> list[Place]:
        """See Scanner."""
        low = text.lower()
        hits = sorted(end for word in self._sieve for end in _ends(low, word, start, len(low)))
        found: list[Place] = []
        for begin, stop in around(hits, low, start):
            for word, rules in self._words.items():
                found += [(end, rule) for end in _ends(low, word, begin, stop) for rule in rules]
        return sorted(found)


def _ends(text: bytes, word: bytes, start: int, stop: int) -> Iterator[int]:
    at = text.find(word, start, stop)
    while at >= 0:
        yield at + len(word)
        at = text.find(word, at + len(word), stop)


def around(places: Iterable[int], text: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield where the lines around places, in order, begin and end; of very long ones what is in reach."""
    low = high = whole = -1
    for place in places:
        if place <= high:
            if high < whole:
                high = min(whole, place + REACH)
            continue
        if high >= 0:
            yield low, high
        low = text.rfind(b"\n", start, place) + 1 or start
        high = whole = text.find(b"\n", place)
        if whole < 0:
            high = whole = len(text)
        if whole - low > 2 * REACH:
            low, high = max(low, place - REACH), min(whole, place + REACH)
    if high >= 0:
        yield low, high


def compiled(patterns: Iterable[str]) -> bytes:
    """Return a database of patterns, to be kept; ImportError where Hyperscan has no wheel."""
    if hs is None:
        raise ImportError("hyperscan")
    expressions = [pattern.encode() for pattern in patterns]
    database = hs.Database(mode=hs.HS_MODE_BLOCK)
    database.compile(
        expressions=expressions,
        ids=list(range(len(expressions))),
        flags=[hs.HS_FLAG_CASELESS | hs.HS_FLAG_MULTILINE] * len(expressions),
    )
    return bytes(hs.dumpb(database))


def version() -> str:
    """Return what a kept database must be renewed with: the engine's version, or nothing without it."""
    return str(hs.__version__) if hs is not None else ""  # type: ignore[attr-defined]
