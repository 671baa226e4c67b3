"""Mask secrets before any text leaves the matcher; identifiers needed for linking survive."""

from __future__ import annotations

import re
import string
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from triage.match import encodings, issuers, shapes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from triage.match.shapes import Shape

MASK = "***"

_SECONDS = 1.0  # for one text
_DEPTH = 3  # base64 within base64
_RUN = re.compile(r"[A-Za-z0-9+/_.~-]{12,}+")  # letters in a row, of which every token has so many
_REPEATED = re.compile(r"(?=\S*\d)(?=\S*[A-Za-z])\S{8,256}")  # a value to look for in the rest of the text
_MOST = 100  # such values of one text
_ENCODED_LETTERS = re.compile(r"[A-Za-z0-9+/_=-]")
_CORE = 6  # letters of base64 that are no coincidence
_SORTS = str.maketrans(
    dict.fromkeys(string.digits, "d")
    | dict.fromkeys(string.ascii_uppercase, "u")
    | dict.fromkeys(string.ascii_lowercase, "l")
)
_OF_EACH, _TURNS = 2, 0.42

_Span: TypeAlias = tuple[int, int]


def mask(line: str, own: Iterable[str] = ()) -> str:
    """Return the text with every secret replaced by ***.

    `own` are values of ours that must never appear, however encoded. Fails closed: text that cannot
    be checked in time is masked whole.
    """
    until = time.monotonic() + _SECONDS
    try:
        found = list(_spans(line, _known(own), until))
        again = {line[a:b] for a, b in found if _REPEATED.fullmatch(line[a:b])}
        if again:
            found += _repeated(line, again, until)
    except TimeoutError:
        return MASK
    return _covered(line, found)


@dataclass(frozen=True)
class _Known:
    """A value that is known to be secret: how it stands in text, and what of it stands in base64."""

    written: frozenset[str]
    cores: frozenset[str]


def _known(values: Iterable[str]) -> list[_Known]:
    return [
        _Known(
            # the second: how it looks when its bytes were unescaped one by one
            frozenset({value, value.encode("utf-8", "replace").decode("latin-1")}),
            frozenset(core for core in encodings.base64_cores(value) if len(core) >= _CORE),
        )
        for value in set(values)
        if value
    ]


def _covered(line: str, spans: list[_Span]) -> str:
    """Return the line with *** in place of the spans, one for those that touch."""
    parts: list[str] = []
    end = 0
    for start, stop in sorted(spans):
        if stop <= end:
            continue
        if start > end or not parts:
            parts += [line[end:start], MASK]
        end = stop
    parts.append(line[end:])
    return "".join(parts)


def _spans(text: str, own: list[_Known], until: float, depth: int = 0) -> Iterator[_Span]:
    for view in encodings.views(text):
        for start, stop in _in_view(view.text, own, until, depth):
            yield view.original(start, stop)


def _in_view(text: str, own: list[_Known], until: float, depth: int) -> Iterator[_Span]:
    longest = max(map(len, _RUN.findall(text)), default=0)
    yield from _values(text, own, until)
    for shape in _shapes(text, longest):
        yield from _matches(shape, text, until)
    if longest:
        yield from _by_chance(text)
        if depth < _DEPTH:
            yield from _encoded(text, own, until, depth)


def _encoded(text: str, own: list[_Known], until: float, depth: int) -> Iterator[_Span]:
    """Return where base64 stands that holds a secret."""
    decoded = encodings.Decoded.of(text)
    yield from decoded.logins
    for start, stop in _spans(decoded.text, own, until, depth + 1):
        yield from decoded.originals(start, stop)


def _matches(shape: Shape, text: str, until: float) -> Iterator[_Span]:
    group = "secret" if "secret" in shape.compiled.groupindex else 0
    at = 0
    while found := shape.compiled.search(text, at, timeout=_left(until)):
        yield found.span(group)
        at = found.end(group)  # what stands behind a secret may be what stands before the next


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _repeated(line: str, values: set[str], until: float) -> Iterator[_Span]:
    """Return where values that were found out stand in the rest of the line, without what gave them away."""
    if len(values) > _MOST:
        raise TimeoutError
    known = _known(values)
    for view in encodings.views(line):
        for start, stop in _values(view.text, known, until):
            yield view.original(start, stop)


def _by_chance(text: str) -> Iterator[_Span]:
    """Return where letters stand that came by chance, as in a key, unless they are said to be a hash."""
    for found in shapes.UNNAMED.finditer(text):
        start = found.start()
        if _is_by_chance(found.group()) and not shapes.HASH_BEFORE.search(text, max(0, start - 20), start):
            yield found.span()


def _is_by_chance(letters: str) -> bool:
    """Whether small letters, capitals and digits take turns as in a key, and not as in a name or a hash.

    In random letters of base64 about six neighbours of ten differ in that, in words hardly one of four.
    """
    sorts = letters.translate(_SORTS)
    if min(map(sorts.count, "dul")) < _OF_EACH:
        return False
    return sum(map(sorts.count, ("du", "ud", "dl", "ld", "ul", "lu"))) >= _TURNS * len(letters)


def _shapes(text: str, longest: int) -> Iterable[Shape]:
    """Return the shapes to try on a text, of which the longest run of letters is known."""
    low = text.lower()
    found = [those for literal, those in _by_literal(tokens=False) if literal in low]
    if longest:
        found += [those for literal, those in _by_literal(tokens=True) if literal in text]
    return {shape: None for those in found for shape in those if shape.run <= longest}


@cache
def _by_literal(*, tokens: bool) -> list[tuple[str, list[Shape]]]:
    """Return the shapes by their literals, of tokens as they stand there, else in lower case."""
    every = (*issuers.TOKENS, *issuers.azure_keys()) if tokens else shapes.NAMED
    found: dict[str, list[Shape]] = {}
    for shape in every:
        for literal in shape.literals or ("",):
            found.setdefault(literal, []).append(shape)
    return list(found.items())


def _values(text: str, values: list[_Known], until: float) -> Iterator[_Span]:
    """Return where values stand, as they are and within base64, of which the whole run is meant."""
    for value in values:
        _left(until)
        for written in value.written:
            at = text.find(written)
            while at >= 0:
                yield at, at + len(written)
                at = text.find(written, at + len(written))
        for core in value.cores:
            at = text.find(core)
            while at >= 0:
                start, stop = _run(text, at, at + len(core))
                yield start, stop
                at = text.find(core, stop)


def _run(text: str, start: int, stop: int) -> _Span:
    """Return the whole run of base64 around a part of it."""
    while start and _ENCODED_LETTERS.match(text[start - 1]):
        start -= 1
    while stop < len(text) and _ENCODED_LETTERS.match(text[stop]):
        stop += 1
    return start, stop
