"""Turn a rule's pattern into what a linear-time scan can look for, and refuse what could take for ever.

The scan works on the bytes of whole logs and may point at too many lines, never at too few: what it
cannot express (look-arounds, word boundaries, line ends, counts of characters that are several bytes) is
left out or widened. `regex` then decides on the lines pointed at.
"""

from __future__ import annotations

import re
from itertools import dropwhile, takewhile

# The standard library's parser knows this grammar in full; `regex` shows no tree of its own.
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

LITERAL_MIN = 4  # letters and digits of a word that is worth looking for
_RARE = 5  # characters of any kind, two of them letters, that stand in few lines
# Of the words that most lines of healthy logs have, those that some message needs; another word is better.
_FREQUENT = frozenset(
    b"http https:// http:// user users test tests warning warnings found github. auth role empty "
    b"passed skipped".split()
)
_LONG_NUMBER = 8  # digits, and what parts them, that stand in few lines
_WIDEN = 12  # a repeat that may go further is widened to "any number", which compiles in a fraction
_BYTES = 4  # of one character, at most
_FEW = 4  # characters of a class that are multiplied out
_PRODUCT = 32  # alternatives that are multiplied out into whole words
_LONG = 64  # repeats that may go further must not stand side by side
_ASCII = frozenset(range(128))
_PLAIN = frozenset(byte for byte in _ASCII if chr(byte).isalnum())  # stands for itself in a pattern
_LINE_END = 10
_CATEGORIES = {
    op.CATEGORY_SPACE: frozenset(b" \t\n\r\x0b\x0c"),
    op.CATEGORY_DIGIT: frozenset(b"0123456789"),
    op.CATEGORY_WORD: frozenset(c for c in range(128) if chr(c).isalnum() or c == ord("_")),
}
_CATEGORIES |= {
    op.CATEGORY_NOT_SPACE: _ASCII - _CATEGORIES[op.CATEGORY_SPACE],
    op.CATEGORY_NOT_DIGIT: _ASCII - _CATEGORIES[op.CATEGORY_DIGIT],
    op.CATEGORY_NOT_WORD: _ASCII - _CATEGORIES[op.CATEGORY_WORD],
}
_NEGATED = {op.CATEGORY_NOT_SPACE, op.CATEGORY_NOT_DIGIT, op.CATEGORY_NOT_WORD}
_REPEATS = {op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT}
_EMPTY = {op.AT, op.ASSERT, op.ASSERT_NOT}
_CHARACTER = {op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN}
_AHEAD = 1  # the direction of an assertion
_LINE_BEGINS, _LINE_ENDS = (op.AT, op.AT_BEGINNING), (op.AT, op.AT_END)
# What a line shows begins after its time stamp, too, and at a carriage return something else begins.
_BEGIN, _END = r"(?:^|\x0d|Z\x20?)", r"(?:$|\x0d)"
_MOST_OF_ASCII = 64
_SIGN = re.compile(r"\\.|\[\^?\]?|[]()|]")  # of a pattern; a bracket closes no class that it begins
_NAMED = re.compile(r"(?<!\\)\(\?P?<(\w+)>")

Part = tuple[Any, Any]  # an opcode of the standard library's parser, and its argument


def parse(pattern: str) -> list[Part]:
    """Return a pattern's parts; ValueError says why it can be no rule's pattern."""
    try:
        parts = list(parser.parse(_standard(pattern), re.ASCII))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is no valid regular expression: {error}") from None
    _refuse(parts)
    return parts


def branches(pattern: str) -> list[str]:
    """Return what a pattern's outermost bars part: whoever matches one of these matches the pattern."""
    found, begin, depth, in_class = [], 0, 0, False
    for each in _SIGN.finditer(pattern):
        sign = each[0]
        if in_class:
            in_class = sign != "]"
        elif sign == "|" and not depth:
            found.append(pattern[begin : each.start()])
            begin = each.end()
        else:
            depth += (sign == "(") - (sign == ")")
            in_class = sign[0] == "["
    return [*found, pattern[begin:]]


def superset(parts: Iterable[Part]) -> str:
    """Return a pattern for Hyperscan that matches wherever the parts do, in bytes; case is ignored there.

    Of what begins by looking ahead, it matches what that looks for, if it is a word.
    """
    return _sequence(list(parts), first=True, last=True)


def literal(word: bytes) -> str:
    """Return a pattern for Hyperscan that matches a word."""
    return "".join(f"\\x{byte:02x}" if byte not in _PLAIN else chr(byte) for byte in word)


def required(parts: Iterable[Part]) -> tuple[bytes, ...]:
    """Return words, lower case, one of which every match holds; of several such sets the rarest words.

    Empty when no such set has words of LITERAL_MIN letters and more, not only digits.
    """
    return _shortest(_chosen(list(parts), (), _selective))


def held(parts: Iterable[Part]) -> tuple[bytes, ...]:
    """Return words, lower case, one of which every match holds, as `required` does, but of any length."""
    return _shortest(_chosen(list(parts), (), bool))


def sieve(parts: Iterable[Part], common: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return as few words as can be that, with the common ones, find every match: it holds one of them.

    Common words may be as short as one likes.
    """

    def fits(word: bytes) -> bool:
        return _selective(word) or _is_long_enough(word) or _holds(word, common)

    return _shortest(word for word in _chosen(list(parts), common, fits) if not _holds(word, common))


def _shortest(words: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return words in order, without those that hold another."""
    every = frozenset(words)
    return tuple(sorted(word for word in every if not _holds(word, every - {word})))


def _standard(pattern: str) -> str:
    """Write named groups as the standard library does, which allows a name only once."""
    seen: set[str] = set()

    def group(found: re.Match[str]) -> str:
        again = found[1] in seen
        seen.add(found[1])
        return "(" if again else f"(?P<{found[1]}>"

    return _NAMED.sub(group, pattern)


# Each part in Hyperscan's words.


def _sequence(parts: list[Part], *, first: bool, last: bool) -> str:
    """Write parts in a row; at the ends of a pattern, what may be absent is left out."""
    for kind, value in takewhile(lambda part: part[0] in _EMPTY, parts if first and last else ()):
        if kind is op.ASSERT and value[0] == _AHEAD and required(value[1]):
            return _sequence(list(value[1]), first=True, last=True)
    begins = first and parts[:1] == [_LINE_BEGINS] and not _reaches_far(parts[1:])
    ends = last and parts[-1:] == [_LINE_ENDS] and not _reaches_far(parts[-2::-1])
    parts = [part for part in parts if part[0] not in _EMPTY]
    first, last = first and not begins, last and not ends
    if first:
        parts = list(dropwhile(_may_be_empty, parts))
    while parts and last and _may_be_empty(parts[-1]):
        parts.pop()
    end = len(parts) - 1
    inner = "".join(_part(p, first=first and i == 0, last=last and i == end) for i, p in enumerate(parts))
    return (_BEGIN if begins else "") + inner + (_END if ends else "")


def _reaches_far(parts: Iterable[Part]) -> bool:
    """Return True when the first of the parts take nearly any text: what stands before them is no help."""
    for part in parts:
        if _takes_much(part):
            return True
        if not _may_be_empty(part):
            return False
    return False


def _takes_much(part: Part) -> bool:
    kind, value = part
    if kind not in _REPEATS:
        return any(_takes_much(each) for row in _rows(kind, value) for each in row)
    if value[1] <= _WIDEN:
        return any(map(_takes_much, value[2]))
    return any(each[0] in _CHARACTER and len(_ascii(each)) > _MOST_OF_ASCII for each in value[2])


def _part(part: Part, *, first: bool, last: bool) -> str:
    kind, value = part
    if kind is op.LITERAL:
        return literal(chr(value).encode())
    if kind in _CHARACTER:
        return _class(part) + (f"{{1,{_BYTES}}}" if _is_wide(part) and not last else "")
    if kind is op.SUBPATTERN:
        return f"(?:{_sequence(list(value[3]), first=first, last=last)})"
    if kind is op.ATOMIC_GROUP:
        return f"(?:{_sequence(list(value), first=first, last=last)})"
    if kind is op.BRANCH:
        return f"(?:{'|'.join(_sequence(list(each), first=first, last=last) for each in value[1])})"
    low, high, body = value
    return _repeat(low, low if first or last else high, list(body))


def _repeat(low: int, high: int, body: list[Part]) -> str:
    wide = any(_is_wide(part) for part in body)
    inner = "".join(_class(p) if p[0] in _CHARACTER else _part(p, first=False, last=False) for p in body)
    if len(body) != 1 or body[0][0] not in _CHARACTER:
        inner = f"(?:{_sequence(body, first=False, last=False)})"
    elif wide and high is not op.MAXREPEAT:
        high *= _BYTES
    return f"{inner}{{{low},}}" if high is op.MAXREPEAT or high > _WIDEN else f"{inner}{{{low},{high}}}"


def _class(part: Part) -> str:
    """Write one byte of a character as a class; a line end is never part of it."""
    members = _ascii(part) - {_LINE_END} | (frozenset(range(128, 256)) if _is_wide(part) else frozenset())
    ends = sorted(byte for byte in members if byte + 1 not in members)
    starts = sorted(byte for byte in members if byte - 1 not in members)
    return "[" + "".join(f"\\x{a:02x}-\\x{z:02x}" for a, z in zip(starts, ends, strict=True)) + "]"


def _ascii(part: Part) -> frozenset[int]:
    kind, value = part
    if kind is op.LITERAL:
        return frozenset({value} & _ASCII)
    if kind is op.NOT_LITERAL:
        return _ASCII - {value}
    if kind is op.ANY:
        return _ASCII
    members: set[int] = set()
    for sort, each in value:
        if sort is op.LITERAL:
            members.add(each)
        elif sort is op.RANGE:
            members.update(range(each[0], min(each[1], 127) + 1))
        elif sort is op.CATEGORY:
            members.update(_CATEGORIES[each])
    return _ASCII - members if value[0][0] is op.NEGATE else frozenset(members & _ASCII)


def _is_wide(part: Part) -> bool:
    """Return True when the part may match characters beyond ASCII."""
    kind, value = part
    if kind is op.LITERAL:
        return value not in _ASCII
    if kind is not op.IN:
        return kind in _CHARACTER
    return any(
        sort is op.NEGATE
        or (sort is op.LITERAL and each not in _ASCII)
        or (sort is op.RANGE and each[1] not in _ASCII)
        or (sort is op.CATEGORY and each in _NEGATED)
        for sort, each in value
    )


def _may_be_empty(part: Part) -> bool:
    kind, value = part
    if kind in _REPEATS:
        return value[0] == 0 or all(_may_be_empty(each) for each in value[2])
    if kind is op.SUBPATTERN:
        return all(_may_be_empty(each) for each in value[3])
    if kind is op.ATOMIC_GROUP:
        return all(_may_be_empty(each) for each in value)
    if kind is op.BRANCH:
        return any(all(_may_be_empty(each) for each in branch) for branch in value[1])
    return kind in _EMPTY


# Words that every match holds.


def _selective(word: bytes) -> bool:
    letters = bytes(byte for byte in word if byte in _PLAIN or byte not in _ASCII)
    return len(letters) >= LITERAL_MIN and (len(word) >= _LONG_NUMBER or not letters.isdigit())


def _is_long_enough(word: bytes) -> bool:
    """Return True for what the sieve may look for although it has few letters: "=== run"."""
    return len(word) >= _RARE and sum(chr(byte).isalpha() for byte in word) > 1


def _holds(word: bytes, others: Iterable[bytes]) -> bool:
    return any(other in word for other in others)


def _chosen(parts: list[Part], common: Sequence[bytes], fits: Callable[[bytes], bool]) -> frozenset[bytes]:
    """Return the best set of fitting words of which every match holds one; nothing when there is none."""

    def price(words: frozenset[bytes]) -> tuple[int, int, int]:
        sought = [word for word in words if not _holds(word, common)]
        rarity = -min(map(len, sought), default=0)
        frequent = sum(word.strip() in _FREQUENT for word in sought)
        return (frequent, len(sought), rarity) if common else (0, rarity, len(sought))

    return min(
        (words for words in _word_sets(parts, common, fits) if all(map(fits, words))),
        key=price,
        default=frozenset(),
    )


def _word_sets(
    parts: list[Part], common: Sequence[bytes], fits: Callable[[bytes], bool]
) -> Iterator[frozenset[bytes]]:
    """Yield sets of words; a match of the parts, or what it looks ahead at, holds one word of each set."""
    runs = {b""}
    for part in _flat(parts):
        if part[0] is op.ASSERT and part[1][0] == _AHEAD:
            yield from _word_sets(list(part[1][1]), common, fits)
        spelled = _spelled(part)
        if spelled and len(runs) * len(spelled) <= _PRODUCT:
            runs = {run + word for run in runs for word in spelled}
            continue
        yield frozenset(runs)
        runs = {b""} if not spelled else set(spelled)
        kind, value = part
        if kind in _REPEATS and value[0] > 0:
            yield from _word_sets(list(value[2]), common, fits)
        elif kind is op.BRANCH:
            each = [_chosen(list(branch), common, fits) for branch in value[1]]
            if all(each):
                yield frozenset(word for words in each for word in words)
    yield frozenset(runs)


def _flat(parts: Iterable[Part]) -> Iterator[Part]:
    """Yield the parts in a row, those within groups among them."""
    for kind, value in parts:
        if kind is op.SUBPATTERN:
            yield from _flat(value[3])
        elif kind is op.ATOMIC_GROUP:
            yield from _flat(value)
        else:
            yield kind, value


def _spelled(part: Part) -> set[bytes]:
    """Return every text, lower case, that a part can be, if these are few; else nothing."""
    kind, value = part
    if kind in _EMPTY:
        return {b""}
    if kind is op.LITERAL:
        return {chr(value).encode().lower()}
    if kind is op.IN and len(value) <= _FEW and all(sort is op.LITERAL for sort, _ in value):
        return {chr(each).encode().lower() for _, each in value}
    if kind in _REPEATS:
        inner = _spelled_row(list(value[2])) if tuple(value[:2]) == (0, 1) else set()
        return inner | {b""} if inner else set()
    rows = [_spelled_row(row) for row in _rows(kind, value)]
    return set().union(*rows) if all(rows) else set()


def _spelled_row(parts: list[Part]) -> set[bytes]:
    texts = {b""}
    for part in parts:
        texts = {text + more for text in texts for more in _spelled(part)}
        if not texts or len(texts) > _PRODUCT:
            return set()
    return texts


# What a backtracking engine could take for ever on.


def _refuse(parts: list[Part]) -> None:
    before: Part | None = None
    for part in parts:
        kind, value = part
        if kind in (op.GROUPREF, op.GROUPREF_EXISTS):
            raise ValueError("refers back to a group; such a pattern cannot be searched in linear time")
        if kind in _REPEATS:
            body = list(value[2])
            if value[1] is op.MAXREPEAT or value[1] > 1:
                _refuse_variable(body)
            if before is not None and _is_long(part) and _is_long(before) and _overlap(before, part):
                raise ValueError(
                    f"has two repeats side by side that take the same characters, each more than {_LONG}; "
                    "join them or put a word between"
                )
            _refuse(body)
        for row in _rows(kind, value):
            _refuse(row)
        if kind not in _EMPTY and not (kind in _REPEATS and not _is_long(part)):
            before = part


def _refuse_variable(body: list[Part]) -> None:
    """Refuse to repeat what may itself be of any length: (a+)*."""
    for kind, value in body:
        if kind in _REPEATS and (value[1] is op.MAXREPEAT or value[1] > _WIDEN) and value[0] != value[1]:
            raise ValueError(
                "repeats a group that itself repeats; such a pattern can take for ever on a hostile line"
            )
        for row in _rows(kind, value):
            _refuse_variable(row)


def _rows(kind: Any, value: Any) -> list[list[Part]]:
    """Return the sequences of parts within a part that is no repeat."""
    if kind is op.SUBPATTERN:
        return [list(value[3])]
    if kind is op.ATOMIC_GROUP:
        return [list(value)]
    if kind is op.BRANCH:
        return [list(branch) for branch in value[1]]
    if kind in (op.ASSERT, op.ASSERT_NOT):
        return [list(value[1])]
    return []


def _is_long(part: Part) -> bool:
    kind, value = part
    return kind in _REPEATS and (value[1] is op.MAXREPEAT or value[1] > _LONG)


def _overlap(one: Part, other: Part) -> bool:
    first, second = list(one[1][2]), list(other[1][2])
    if len(first) != 1 or len(second) != 1 or not {first[0][0], second[0][0]} <= _CHARACTER:
        return False
    shared = _ascii(first[0]) & _ascii(second[0])
    return bool(shared) or (_is_wide(first[0]) and _is_wide(second[0]))
