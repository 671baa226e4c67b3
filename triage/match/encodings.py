"""Read text as it was before it was escaped, URL- or base64-encoded, and tell where it came from."""

from __future__ import annotations

import base64
import html
import re
from binascii import a2b_base64
from bisect import bisect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LEVELS = 4  # JSON within JSON within a URL, and one more
_ESCAPE = re.compile(
    r"%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\[\"'/\\nrtbf]"
    r"|&(?:quot|amp|apos|lt|gt|#x?[0-9A-Fa-f]{1,5});"
    r"|\x1b\[[0-?]{0,32}[ -/]{0,8}[@-~]|[\u00ad\u200b-\u200d\u2060\ufeff]"  # colours, and what has no width
)
_CONTROL = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_BASE64 = re.compile(r"([A-Za-z0-9+/_-]{12,}+)={0,2}")
_STANDARD = str.maketrans("-_", "+/")
# Text of UTF-8, or of UTF-16 as PowerShell encodes commands; so much of it is no coincidence.
_READABLE = re.compile(
    rb"[\t\n\r -~]{8,}+(?:(?:[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2})[\t\n\r -~]*+)*+"
    rb"|(?:[\t\n\r -~]\0){6,}+"
)
_UNREADABLE = b"\xff"
_PADDING = ("", "A==", "==", "=")  # one letter alone says nothing: A fills it up
_USER_AND_PASSWORD = re.compile(rb"[A-Za-z_$][\w.@\\$-]{0,100}:[!-~]{4,400}")


@dataclass(frozen=True)
class View:
    """A text, and for each of its characters (and its end) the place in the original."""

    text: str
    at: Sequence[int]

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Return the places in the original of a part of this text."""
        return self.at[start], self.at[end]


def views(text: str) -> Iterator[View]:
    """Return the text as it is, and then with one level of escapes after another taken away."""
    view = View(text, range(len(text) + 1))
    yield view
    for _ in range(_LEVELS):
        peeled = _peel(view)
        if peeled is None:
            return
        view = peeled
        yield view


def _peel(view: View) -> View | None:
    parts: list[str] = []
    at: list[int] = []
    end = 0
    for found in _ESCAPE.finditer(view.text):
        parts.append(view.text[end : found.start()])
        at.extend(view.at[end : found.start()])
        meant = _meant(found.group())
        parts.append(meant)
        at.extend([view.at[found.start()]] * len(meant))
        end = found.end()
    if not end:
        return None
    parts.append(view.text[end:])
    at.extend(view.at[end:])
    return View("".join(parts), at)


def _meant(escape: str) -> str:
    match escape[0]:
        case "%":
            return chr(int(escape[1:], 16))
        case "\\" if len(escape) == len(r"\n"):
            return _CONTROL.get(escape[1], escape[1])
        case "\\":
            return chr(int(escape.lstrip(r"\ux"), 16))
        case "&":
            return html.unescape(escape)
        case _:
            return ""


@dataclass
class Decoded:
    """All that can be read in the base64 of a text, in lines."""

    text: str = ""
    logins: list[tuple[int, int]] = field(default_factory=list)  # where base64 is a user and a password
    _ends: list[int] = field(default_factory=list)  # of what was read, in `text`
    _runs: list[tuple[int, int]] = field(default_factory=list)  # where that stands

    def originals(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return where the base64 stands that holds a part of the text."""
        return self._runs[bisect(self._ends, start) : bisect(self._ends, end - 1) + 1]

    @classmethod
    def of(cls, text: str) -> Decoded:
        """Read the base64 of a text."""
        decoded = cls()
        lines: list[str] = []
        length = 0
        for found in _BASE64.finditer(text):
            run = found[1].translate(_STANDARD)
            if _USER_AND_PASSWORD.fullmatch(_bytes(run)):
                decoded.logins.append(found.span())
            for line in _readable(run):
                lines.append(line.replace(b"\0", b"").decode("utf-8", "replace"))
                length += len(lines[-1]) + 1
                decoded._ends.append(length)
                decoded._runs.append(found.span())
        decoded.text = "\n".join(lines)
        return decoded


def _readable(run: str) -> list[bytes]:
    """Return what can be read in letters of base64; what stands before it may be of the same letters."""
    return _READABLE.findall(_UNREADABLE.join([_bytes(run[skipped:]) for skipped in range(4)]))


def _bytes(run: str) -> bytes:
    return a2b_base64(run + _PADDING[len(run) % 4])


def base64_cores(value: str) -> Iterator[str]:
    """Return the letters that stand in any base64 text that holds the value, wherever in it it starts."""
    data = value.encode("utf-8", "replace")
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + data).decode().rstrip("=")
        first = (0, 2, 3)[shift]
        last = len(whole) if (shift + len(data)) % 3 == 0 else len(whole) - 1
        core = whole[first:last]
        yield core
        yield core.replace("+", "-").replace("/", "_")
