"""Turn a log's bytes into the lines a person would see, numbered as Azure DevOps numbers them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_TIMESTAMP = re.compile(rb"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z ?")
# CSI, OSC and two-letter sequences; none of them reaches over a line's end.
_SEQUENCE = (
    rb"(?:\[[0-?]{0,32}[ -/]{0,8}[@-~]|\][^\x07\x1b\n]{0,256}(?:\x07|\x1b\\|\^\[\\)|[@-Z\\^_]|[()#][0-9A-B])"
)
_ANSI = re.compile(rb"\x1b" + _SEQUENCE)
_CARET = re.compile(rb"\^\[" + _SEQUENCE)  # the escape character as a pager shows it
_INVISIBLE = (b"\x00", b"\x07", b"\x08", b"\x1b")
_BOM = b"\xef\xbb\xbf"
# What else steers a terminal is shown as a character that nobody mistakes for text.
_CONTROLS = dict.fromkeys([*range(9), *range(10, 32), *range(127, 160)], "\N{REPLACEMENT CHARACTER}")
_FIRST_OF_C1 = b"\xc2"  # of U+0080 to U+009F in UTF-8, and of a few letters
_CONTROL_BYTES = bytes(code for code in (*range(9), *range(11, 13), *range(14, 32), 127))
_CONTROLS_OF_A_LINE = {code: shown for code, shown in _CONTROLS.items() if code != ord("\n")}


def wash(raw: bytes) -> bytes:
    """Return a piece of a log without colours, BOMs, NULs and bells: what would split a word.

    The number of lines stays as it is.
    """
    if b"\x1b" in raw:
        raw = _ANSI.sub(b"", raw)
    if b"^" in raw and b"^[" in raw:  # to look for one byte first is far quicker
        raw = _CARET.sub(b"", raw)
    for byte in _INVISIBLE:
        if byte in raw:
            raw = raw.replace(byte, b"")
    return raw.replace(_BOM, b"") if b"\xbb" in raw else raw


def parts(washed: bytes) -> list[str]:
    """Return what a washed line shows, without its time stamp: a progress bar shows several texts in turn."""
    decoded, plain = _decoded(washed)
    shown = [part for part in decoded.split("\r") if part.strip()]
    return shown if plain else [part.translate(_CONTROLS) for part in shown]


def _decoded(washed: bytes) -> tuple[str, bool]:
    """Return text without time stamps, and whether it has no control characters, as most lines have none."""
    raw = _TIMESTAMP.sub(b"", washed)
    plain = _FIRST_OF_C1 not in raw and len(raw.translate(None, _CONTROL_BYTES)) == len(raw)
    return raw.decode("utf-8", "replace"), plain


def text(washed: bytes) -> str:
    """Return all that a washed line shows, each of its texts on a line of its own."""
    return "\n".join(parts(washed))


def lines(washed: Iterable[bytes]) -> str:
    """Return what washed lines show, each text on a line of its own; quicker than one after the other."""
    decoded, plain = _decoded(b"\n".join(washed))
    decoded = decoded.replace("\r", "\n")
    return decoded if plain else decoded.translate(_CONTROLS_OF_A_LINE)


def shown(log: bytes) -> list[str]:
    """Return what each line of a log shows; for one that fits into memory several times."""
    return [text(line) for line in wash(log).split(b"\n")]


def printed(washed: bytes) -> datetime | None:
    """Return when the agent printed a line, to the second, if the line says so."""
    found = _TIMESTAMP.match(washed)
    if not found:
        return None
    try:
        return datetime.fromisoformat(found.group()[:19].decode()).replace(tzinfo=UTC)
    except ValueError:
        return None
