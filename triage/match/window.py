"""Slide over a log of any size: a text that always holds the surroundings of what is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from triage.match import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

REACH = 4096  # bytes to both sides of a place that are looked at; few lines are longer
_SURROUNDINGS = 64 * 1024  # bytes before and after a place that rules may look around in
_PIECE = 1024 * 1024
_SEQUENCE_MAX = 512  # bytes of a colour sequence that a cut must not divide


@dataclass
class _Tally:
    """The line ends before an offset of a log; counted as late as can be, for most logs need none."""

    recount: Callable[[int, int], int] | None  # counts them between offsets of the log as it came
    offset: int = 0
    ends: int = 0

    def before(self, window: Window, place: int) -> int:
        """Return how many line ends stand before a place of a window."""
        start = self.offset - window.offset
        if start >= place:
            return self.ends - window.text.count(b"\n", place, start)
        if start < 0 and self.recount:
            self.ends += self.recount(self.offset, window.offset)
            start = 0
        self.ends += window.text.count(b"\n", start, place)
        self.offset = window.offset + place
        return self.ends


@dataclass(frozen=True)
class Window:
    """A washed part of a log. Offsets count from its beginning."""

    text: bytes
    offset: int  # of the text in the whole washed log
    fresh: int  # what begins here has not been in an earlier window
    settled: int  # places before this have their surroundings in the text
    line_begins: bool  # the text begins where a line does
    tally: _Tally

    def number(self, place: int) -> int:
        """Return the number of the line that a place is in; for the latest window alone."""
        return self.tally.before(self, place) + 1

    def line(self, place: int) -> tuple[int, int]:
        """Return where the line around a place begins and ends, as far as it is in the text."""
        begin = self.text.rfind(b"\n", 0, place) + 1
        end = self.text.find(b"\n", place)
        return begin, len(self.text) if end < 0 else end

    def back(self, begin: int, lines: int) -> int:
        """Return where the first of so many lines begins before the one that begins here."""
        low = max(0, begin - _SURROUNDINGS)
        while lines and begin > low:
            begin = self.text.rfind(b"\n", low, begin - 1) + 1 or low
            lines -= 1
        return begin

    def on(self, end: int, lines: int) -> int:
        """Return where the last of so many lines ends after the one that ends here."""
        high = min(len(self.text), end + _SURROUNDINGS)
        while lines and end < high:
            end = self.text.find(b"\n", end + 1, high)
            end = high if end < 0 else end
            lines -= 1
        return end

    def before(self, begin: int, lines: int) -> list[bytes]:
        """Return so many lines before the one that begins here, in order."""
        start = self.back(begin, lines)
        return _reached(self.text[start : begin - 1]) if start < begin else []

    def after(self, end: int, lines: int) -> list[bytes]:
        """Return so many lines after the one that ends here, in order."""
        stop = self.on(end, lines)
        return _reached(self.text[end + 1 : stop]) if stop > end else []


def _reached(text: bytes) -> list[bytes]:
    return [line[:REACH] for line in text.split(b"\n")]


def slide(chunks: Iterable[bytes], recount: Callable[[int, int], int] | None = None) -> Iterator[Window]:
    """Yield windows over the chunks of one log; every byte is fresh in one of them.

    `recount` counts the line ends between two offsets of a log that can be read again.
    """
    text, offset, begins, tally = b"", 0, True, _Tally(recount)
    for raw in _pieces(chunks):
        piece = clean.wash(raw)
        fresh = len(text)
        if piece is not raw and tally.recount:  # offsets are no longer those of the log as it came
            tally.before(Window(text, offset, fresh, fresh, begins, tally), fresh)
            tally.recount = None
        text += piece
        settled = len(text) - _SURROUNDINGS
        window = Window(text, offset, fresh, settled, begins, tally)
        yield window
        cut = max(0, settled - _SURROUNDINGS)
        if cut:
            if not tally.recount:
                window.number(cut)
            begins = text[cut - 1 : cut] == b"\n"
            text = text[cut:]
            offset += cut
    yield Window(text, offset, len(text), len(text) + 1, begins, tally)


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Gather chunks into pieces that end at a line's end, or where no colour sequence is divided."""
    kept: list[bytes] = []
    size = 0
    for chunk in chunks:
        kept.append(chunk)
        size += len(chunk)
        if size < _PIECE:
            continue
        data = b"".join(kept)
        cut = data.rfind(b"\n") + 1 or _cut(data)
        yield data[:cut]
        kept, size = [data[cut:]], len(data) - cut
    if size:
        yield b"".join(kept)


def _cut(data: bytes) -> int:
    """Return where an endless line may be divided."""
    escape = data.rfind(b"\x1b", len(data) - _SEQUENCE_MAX)
    return escape if escape > 0 else len(data)
