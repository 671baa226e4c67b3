"""Search a log: a cheap look for the rules' literals in whole blocks, then the rules on those lines."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import regex

from triage.domain import Match
from triage.match import clean, context, redact, when

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from triage.domain import Task
    from triage.match.pack import Pack, Rule

_BLOCK = 512 * 1024
_EXCERPT = 300  # characters of a line that are shown
_ANCHOR = 60  # characters shown before what matched
_RULE_SECONDS = 0.25
_LOOK_BACK = 50  # lines kept for rules that look around them
_TIMEOUTS = 3  # after so many a rule is set aside for the rest of the log
_RETRY_LINES = 2  # lines after a message that may announce another attempt
# Lines to look at although no rule points at them: they change what the others mean.
_MARKS = (
    b"script contents:",
    b"generating script",
    b"starting command output",
    context.SUCCESS.encode(),
)
_AGENT_TAG = regex.compile(r"^##\[(?:error|warning)\]")


@dataclass(frozen=True)
class Search:
    """What a log holds: at most one match for each credential family, in line order."""

    matches: tuple[Match, ...]
    lines: int
    cut: tuple[str, ...] = ()  # what was not looked at, in sentences


@dataclass
class _State:
    pack: Pack
    whole: bool
    own: Sequence[str]
    reader: context.Reader = field(default_factory=context.Reader)
    found: list[Match] = field(default_factory=list)
    provisional: list[Match] = field(default_factory=list)  # of those found
    timeouts: Counter[str] = field(default_factory=Counter)
    cut: list[str] = field(default_factory=list)


def search(
    pack: Pack,
    chunks: Iterable[bytes],
    *,
    line_numbers: Sequence[int] | None = None,
    task: Task | None = None,
    own: Sequence[str] = (),
    whole: bool = False,
) -> Search:
    """Search the chunks of one log.

    `line_numbers` gives the true numbers of the lines where the text is an extract. `own`
    are secrets of ours, masked besides what looks like one. With `whole`
    the context of a line is ignored and every match of every rule is returned.
    """
    del task  # which task printed a log matters from the next pack on
    state = _State(pack, whole, own)
    number = 1
    before: deque[bytes] = deque(maxlen=_LOOK_BACK)
    for block, following in _with_following(_blocks(chunks, state.cut)):
        pointed = _pointed_lines(pack, block)
        if pointed:
            lines = block.split(b"\n")[:-1] + following.split(b"\n", _LOOK_BACK)[:_LOOK_BACK]
            for index in sorted(pointed):
                _line(state, lines, before, index, number, pointed[index])
        before.extend(block.rsplit(b"\n", _LOOK_BACK + 1)[-_LOOK_BACK - 1 : -1])
        number += block.count(b"\n")
    matches = state.found
    if line_numbers is not None:
        matches = [_renumbered(m, line_numbers) for m in matches]
    if not whole:
        matches = _best(pack, matches)
    return Search(tuple(sorted(matches, key=lambda m: m.line)), number - 1, tuple(state.cut))


def _with_following(blocks: Iterator[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Pair each block with the next, for rules that look at the lines after theirs."""
    block = next(blocks, b"")
    for following in blocks:
        yield block, following
        block = following
    if block:
        yield block, b""


def _blocks(chunks: Iterable[bytes], cut: list[str]) -> Iterator[bytes]:
    """Gather chunks into blocks that end at a line's end; a line beyond the cap is cut short."""
    kept: list[bytes] = []
    size = 0
    dropping = False
    number = 1
    for chunk in chunks:
        if dropping:
            end = chunk.find(b"\n")
            if end < 0:
                continue
            kept, size, dropping = [kept[0], chunk[end:]], len(kept[0]) + len(chunk) - end, False
        else:
            kept.append(chunk)
            size += len(chunk)
        if size < _BLOCK:
            continue
        data = b"".join(kept)
        end = data.rfind(b"\n") + 1
        if end:
            number += data.count(b"\n", 0, end)
            yield data[:end]
            kept, size = [data[end:]], len(data) - end
        else:
            kept, size, dropping = [data[: clean.LINE_CAP]], clean.LINE_CAP, True
            cut.append(_cut_short(number))
    rest = b"".join(kept)
    if rest:
        yield rest if rest.endswith(b"\n") else rest + b"\n"


def _cut_short(number: int) -> str:
    return f"Line {number} was read only to {clean.LINE_CAP // 1024} KiB."


def _pointed_lines(pack: Pack, block: bytes) -> dict[int, set[int]]:
    """Return the block's lines that hold a literal, each with the rules it points at."""
    low = block.lower()
    offsets: dict[int, set[int]] = {}
    for literal, rules in pack.literals.items():
        at = low.find(literal)
        while at >= 0:
            offsets.setdefault(at, set()).update(rules)
            at = low.find(literal, at + len(literal))
    for mark in _MARKS:
        at = low.find(mark)
        while at >= 0:
            offsets.setdefault(at, set())
            at = low.find(mark, at + len(mark))
    pointed: dict[int, set[int]] = {}
    line, since = 0, 0
    for at in sorted(offsets):
        line += block.count(b"\n", since, at)
        since = at
        pointed.setdefault(line, set()).update(offsets[at])
    return pointed


def _line(
    state: _State,
    lines: list[bytes],
    before: deque[bytes],
    index: int,
    first: int,
    rules: set[int],
) -> None:
    raw = lines[index]
    number = first + index
    if len(raw) > clean.LINE_CAP:
        state.cut.append(_cut_short(number))
    text = clean.text(raw[: clean.LINE_CAP])
    if state.reader.is_quoted(number, text) and not state.whole:
        return
    if context.SUCCESS in text.lower():
        state.found = [match for match in state.found if match not in state.provisional]
        state.provisional = []
    known = set() if state.whole else {match.rule for match in state.found}
    for position in sorted(rules):
        rule = state.pack.rules[position]
        if rule.id in known or state.timeouts[rule.id] >= _TIMEOUTS:
            continue
        try:
            found = _matched(state.pack, rule, text)
            if found is None or not _surroundings_fit(state.pack, rule, lines, before, index):
                continue
            if rule.time and not when.holds(rule.time, found.groupdict(), clean.printed(raw)):
                continue
        except TimeoutError:
            _note_timeout(state, rule, number)
            continue
        match = _match(rule, number, text, found, state.own)
        state.found.append(match)
        after = [clean.text(r[: clean.LINE_CAP]) for r in lines[index + 1 : index + 1 + _RETRY_LINES]]
        if not state.whole and context.is_provisional([text, *after]):
            state.provisional.append(match)


def _matched(pack: Pack, rule: Rule, text: str) -> regex.Match[str] | None:
    found = pack.pattern(rule.pattern).search(text, timeout=_RULE_SECONDS)
    if found and any(pack.pattern(veto).search(text, timeout=_RULE_SECONDS) for veto in rule.unless):
        return None
    return found


def _note_timeout(state: _State, rule: Rule, number: int) -> None:
    state.timeouts[rule.id] += 1
    aside = " and was set aside" if state.timeouts[rule.id] == _TIMEOUTS else ""
    state.cut.append(f"Rule {rule.id} ran out of time on line {number}{aside}.")


def _surroundings_fit(pack: Pack, rule: Rule, lines: list[bytes], before: deque[bytes], index: int) -> bool:
    if not _in_order(pack, rule.followed_by, lines[index + 1 : index + 1 + rule.within]):
        return False
    if not rule.near and not rule.not_near:
        return True
    missing = rule.within - index
    earlier = list(before)[-missing:] if missing > 0 else []
    around = [*earlier, *lines[max(0, index - rule.within) : index + rule.within + 1]]
    text = "\n".join(clean.text(raw[: clean.LINE_CAP]) for raw in around)
    fits = all(pack.pattern(p).search(text, timeout=_RULE_SECONDS) for p in rule.near)
    return fits and not any(pack.pattern(p).search(text, timeout=_RULE_SECONDS) for p in rule.not_near)


def _in_order(pack: Pack, patterns: Sequence[str], lines: Iterable[bytes]) -> bool:
    """Return True when each pattern matches a line of its own, in this order."""
    texts = iter([clean.text(raw[: clean.LINE_CAP]) for raw in lines] if patterns else ())
    return all(
        any(pack.pattern(pattern).search(text, timeout=_RULE_SECONDS) for text in texts)
        for pattern in patterns
    )


def _match(rule: Rule, number: int, text: str, found: regex.Match[str], own: Sequence[str]) -> Match:
    masked = redact.mask(text.strip(), own)
    captures = {
        name: redact.mask(value, own) for name, value in found.groupdict().items() if value is not None
    }
    return Match(
        rule=rule.id,
        title=rule.title,
        credential=rule.credential,
        verdict=rule.verdict,
        confidence=rule.confidence,
        line=number,
        # a value that only its place in the line shows to be a secret is masked in the line alone
        captures={name: value if value in masked else redact.MASK for name, value in captures.items()},
        excerpt=_excerpt(masked, redact.mask(found.group(), own)),
        explanation=rule.explanation,
        connection_types=tuple(rule.connection_types),
        advice=rule.advice,
    )


def _excerpt(masked: str, matched: str) -> str:
    """Return a line without the agent's tag, and of a long one the part around what matched."""
    masked = _AGENT_TAG.sub("", masked)
    if len(masked) <= _EXCERPT:
        return masked
    start = max(0, masked.find(matched[:_ANCHOR]) - _ANCHOR)
    end = start + _EXCERPT
    return ("…" if start else "") + masked[start:end] + ("…" if end < len(masked) else "")


def _renumbered(match: Match, numbers: Sequence[int]) -> Match:
    return replace(match, line=numbers[match.line - 1]) if match.line <= len(numbers) else match


def _best(pack: Pack, matches: list[Match]) -> list[Match]:
    """Drop what yields to another match, then keep the strongest match of each family."""
    yields = {rule.id: set(rule.yields_to) for rule in pack.rules if rule.yields_to}
    present = {match.rule for match in matches}
    standing = [m for m in matches if not yields.get(m.rule, set()) & present]
    best: dict[str, Match] = {}
    for match in sorted(standing, key=lambda each: each.strength, reverse=True):
        best.setdefault(match.credential, match)
    return list(best.values())
