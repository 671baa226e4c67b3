"""Look for a secret in text in any of its encodings; written apart from what masks, to judge it."""

from __future__ import annotations

import base64
import binascii
import html
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PIECE = 8  # characters of a secret that must not be seen together
_RUN = re.compile(r"[A-Za-z0-9+/_-]{12,}")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")


def seen(secret: str, text: str) -> list[str]:
    """Return the pieces of a secret that can be read in a text, decoded however often."""
    wanted = pieces(secret)
    return [piece for reading in readings(text) for piece in wanted if piece in reading]


def any_seen(secrets: Iterable[str], text: str) -> list[str]:
    """Return those of many secrets of which a piece can be read in a long text."""
    parts = {part for reading in readings(text) for part in windows(reading, PIECE)}
    return [secret for secret in secrets if parts & pieces(secret)]


def pieces(secret: str) -> set[str]:
    """Return every piece of a secret that must not be seen."""
    return set(windows(secret, min(PIECE, len(secret))))


def windows(text: str, size: int) -> Iterator[str]:
    """Return every part of a text of a size."""
    return (text[at : at + size] for at in range(len(text) - size + 1))


def readings(text: str, depth: int = 4) -> set[str]:
    """Return a text and what it is when unescaped and decoded."""
    found = {text}
    front = {text}
    for _ in range(depth):
        front = {new for old in front for new in _decoded(old)} - found
        found |= front
    return found


def _decoded(text: str) -> set[str]:
    unescaped = _ESCAPE.sub(lambda m: chr(int(m[1][1:], 16)) if m[1][0] == "u" and m[1][1:] else m[1], text)
    found = {unquote(text), unescaped, html.unescape(text)}
    for run in set(_RUN.findall(text)):
        run = run.replace("-", "+").replace("_", "/")  # noqa: PLW2901
        for skipped in range(4):
            whole = run[skipped : skipped + (len(run) - skipped) // 4 * 4]
            try:
                data = base64.b64decode(whole)
            except binascii.Error:
                continue
            printable = sum(32 <= byte < 127 or byte in (0, 9, 10, 13) for byte in data)
            if data and printable >= 0.9 * len(data):
                found.add(data.replace(b"\0", b"").decode("latin-1"))
    return found
