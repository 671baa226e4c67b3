"""Turn a log's bytes into the lines a person would see, numbered as Azure DevOps numbers them."""

from __future__ import annotations

from datetime import UTC, datetime

import regex

LINE_CAP = 64 * 1024  # bytes of one line that are looked at

_TIMESTAMP = regex.compile(rb"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z ?")
# CSI and OSC sequences, also with the escape character shown as ^[ by a pager.
_ANSI = regex.compile(
    rb"(?:\x1b|\^\[)(?:\[[0-?]{0,32}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[@-Z\\-_])"
)
_BOM = b"\xef\xbb\xbf"


def text(raw: bytes) -> str:
    """Return a line as a terminal would leave it: no timestamp, colours, BOMs or control characters.

    A progress bar's line, redrawn by carriage returns, becomes its parts joined by a space bar's
    worth of room, so that a message printed over it is still found.
    """
    raw = raw.replace(_BOM, b"")
    raw = _TIMESTAMP.sub(b"", raw)
    if b"\x1b" in raw or b"^[" in raw:
        raw = _ANSI.sub(b"", raw)
    decoded = raw.decode("utf-8", "replace").rstrip("\r")
    if "\r" in decoded:
        decoded = "  ".join(part for part in decoded.split("\r") if part.strip())
    return "".join(c if c >= " " or c == "\t" else "" for c in decoded) if _has_control(decoded) else decoded


def printed(raw: bytes) -> datetime | None:
    """Return when the agent printed a line, to the second, if the line says so."""
    found = _TIMESTAMP.match(raw)
    return datetime.fromisoformat(found.group()[:19].decode()).replace(tzinfo=UTC) if found else None


def _has_control(line: str) -> bool:
    return not line.isprintable()
