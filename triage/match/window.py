"""Slide over a log of any size: a text that always holds the surroundings of what is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from triage.match import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REACH = 4096  # bytes to both sides of a place that are looked at; few lines are longer
_SURROUNDINGS = 64 * 1024  # bytes before and after a place that rules may look around in
_PIECE = 1024 * 1024
_SEQUENCE_MAX = 512  # bytes of a colour sequence that a cut must not divide


@dataclass
class Window:
    """A washed part of a log. Offsets count from its beginning."""

    text: bytes
    offset: int  # of the text in the whole washed log
    fresh: int  # what begins here has not been in an earlier window
    settled: int  # places before this have their surroundings in the text
    line_begins: bool  # the text begins where a line does
    counted: int  # so far the lines have been counted
    lines: int  # that end before that

    def number(self, place: int) -> int:
        """Return the number of the line that a place is in; to be asked in order."""
        if place > self.counted:
            self.lines += self.text.count(b"\n", self.counted, place)
            self.counted = place
            return self.lines + 1
        return self.lines + 1 - self.text.count(b"\n", place, self.counted)

    def line(self, place: int) -> tuple[int, int]:
        """Return where the line around a place begins and ends, as far as it is in the text."""
        begin = self.text.rfind(b"\n", 0, place) + 1
        end = self.text.find(b"\n", place)
        return begin, len(self.text) if end < 0 else end

    def before(self, begin: int, lines: int) -> list[bytes]:
        """Return so many lines before the one that begins here, in order."""
        low, start = max(0, begin - _SURROUNDINGS), begin
        while lines and start > low:
            start = self.text.rfind(b"\n", low, start - 1) + 1 or low
            lines -= 1
        return _reached(self.text[start : begin - 1]) if start < begin else []

    def after(self, end: int, lines: int) -> list[bytes]:
        """Return so many lines after the one that ends here, in order."""
        high, stop = min(len(self.text), end + _SURROUNDINGS), end
        while lines and stop < high:
            stop = self.text.find(b"\n", stop + 1, high)
            stop = high if stop < 0 else stop
            lines -= 1
        return _reached(self.text[end + 1 : stop]) if stop > end else []


def _reached(text: bytes) -> list[bytes]:
    return [line[:REACH] for line in text.split(b"\n")]


def slide(chunks: Iterable[bytes]) -> Iterator[Window]:
    """Yield windows over the chunks of one log; every byte is fresh in one of them."""
    text, offset, begins, counted, lines = b"", 0, True, 0, 0
    for piece in _pieces(chunks):
        fresh = len(text)
        text += piece
        settled = len(text) - _SURROUNDINGS
        window = Window(text, offset, fresh, settled, begins, counted, lines)
        yield window
        cut = max(0, settled - _SURROUNDINGS)
        if cut:
            window.number(cut)
            begins = text[cut - 1 : cut] == b"\n"
            text = text[cut:]
            offset += cut
        counted, lines = window.counted - cut, window.lines
    yield Window(text, offset, len(text), len(text) + 1, begins, counted, lines)


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Gather chunks into washed pieces that end at a line's end, or where no colour sequence is divided."""
    kept: list[bytes] = []
    size = 0
    for chunk in chunks:
        kept.append(chunk)
        size += len(chunk)
        if size < _PIECE:
            continue
        data = b"".join(kept)
        cut = data.rfind(b"\n") + 1 or _cut(data)
        yield clean.wash(data[:cut])
        kept, size = [data[cut:]], len(data) - cut
    if size:
        yield clean.wash(b"".join(kept))


def _cut(data: bytes) -> int:
    """Return where an endless line may be divided."""
    escape = data.rfind(b"\x1b", len(data) - _SEQUENCE_MAX)
    return escape if escape > 0 else len(data)
