"""Search a log: one linear scan points at lines, then the rules decide on these lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import regex

from triage.domain import Match
from triage.match import clean, context, redact, when
from triage.match.step import Step
from triage.match.window import REACH, slide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from triage.match.pack import Pack
    from triage.match.prescan import Place
    from triage.match.rule import Rule
    from triage.match.step import Decision, Refusal
    from triage.match.window import Window

_EXCERPT = 300  # characters of a line that are shown
_ANCHOR = 60  # characters shown before what matched
_RULE_SECONDS = 0.25
_TIMEOUTS = 3  # after so many a rule is set aside for the rest of the log
_RETRY_LINES = 2  # lines after a message that may announce another attempt
_HEAD = 512  # bytes of a very long line that tell what kind of line it is
_AGENT_TAG = regex.compile(r"^##\[(?:error|warning)\]")


@dataclass(frozen=True)
class Search:
    """What a log holds: at most one match for each credential family, in line order."""

    matches: tuple[Match, ...]
    cut: tuple[str, ...] = ()  # what was not looked at, in sentences


@dataclass
class _Around:
    """A line and so many lines before and after it; what no rule asks for is not made."""

    line: _Line
    within: int

    @cached_property
    def low(self) -> bytes:
        """At least what `text` is made of, in lower case."""
        line, text = self.line, self.line.window.text
        start, stop = line.window.back(line.begin, self.within), line.window.on(line.end, self.within)
        if line.is_whole:
            return text[start:stop].lower()
        return b"".join((text[start : line.begin], line.raw, text[line.end : stop])).lower()

    @cached_property
    def later(self) -> str:
        return clean.lines(self.line.window.after(self.line.end, self.within))

    @cached_property
    def text(self) -> str:
        before = self.line.window.before(self.line.begin, self.within)
        return "\n".join((clean.lines([*before, self.line.raw]), self.later))


@dataclass(frozen=True)
class _Line:
    """A line that the scan points at, or the part of a very long one around the place."""

    raw: bytes
    head: bytes  # what the line begins with, when `raw` is from its middle
    begin: int  # where the whole line begins and ends in its window
    end: int
    window: Window
    seen: dict[int, _Around] = field(default_factory=dict)

    def around(self, within: int) -> _Around:
        """Return so many lines around; several rules ask for the same."""
        if within not in self.seen:
            self.seen[within] = _Around(self, within)
        return self.seen[within]

    @property
    def is_whole(self) -> bool:
        return len(self.raw) == self.end - self.begin

    @property
    def number(self) -> int:
        return self.window.number(self.begin)


@dataclass
class _Finding:
    match: Match
    provisional: bool  # a later success takes it back
    firm: bool  # the end of a test run does not

    @property
    def sort(self) -> tuple[str, bool, bool]:
        """Of each sort one is enough."""
        return self.match.rule, self.provisional, self.firm


@dataclass
class _State:
    pack: Pack
    whole: bool
    own: Sequence[str]
    told: Callable[[Step], None] | None
    reader: context.Reader = field(default_factory=context.Reader)
    found: list[_Finding] = field(default_factory=list)
    timeouts: Counter[str] = field(default_factory=Counter)
    cut: list[str] = field(default_factory=list)

    def asks(self, rule: Rule, *, firm: bool) -> bool:
        """Return False when nothing that a line could add about a rule would matter."""
        if self.whole or not self.found:
            return True
        found = [each for each in self.found if each.match.rule == rule.id]
        return all(each.provisional for each in found) or (firm and not any(each.firm for each in found))

    def tell(self, line: _Line, text: str, rule: Rule | None, decision: Decision, detail: str = "") -> None:
        """Say what was decided, if anybody listens: most of the lines pointed at are refused."""
        if self.told:
            self.told(Step(line.number, text, rule.id if rule else "", decision, detail))

    def has(self, sort: tuple[str, bool, bool]) -> bool:
        return not self.whole and any(each.sort == sort for each in self.found)

    def drop(self, found: Callable[[_Finding], bool], text: str, number: int) -> None:
        told = self.told or _unheard
        for each in filter(found, self.found):
            told(Step(each.match.line, text, each.match.rule, "overcome", str(number)))
        if not self.whole:
            self.found = [each for each in self.found if not found(each)]


def search(
    pack: Pack,
    chunks: Iterable[bytes],
    *,
    line_numbers: Sequence[int] | None = None,
    recount: Callable[[int, int], int] | None = None,
    own: Sequence[str] = (),
    whole: bool = False,
    told: Callable[[Step], None] | None = None,
) -> Search:
    """Search the chunks of one log.

    `line_numbers` gives the true numbers of the lines where the text is an extract; `recount` counts the
    line ends between two offsets of a log that can be read again, which saves counting all of them. `own`
    are secrets of ours, masked besides what looks like one. With `whole`
    the context of a line is ignored and every match of every rule is returned.
    `told` hears every decision on a line that the scan points at.
    """
    state = _State(pack, whole, own, told)
    for line, rules in _pointed(pack, slide(chunks, recount)):
        _line(state, line, rules)
    matches = [each.match for each in state.found]
    if line_numbers is not None:
        matches = [_renumbered(m, line_numbers) for m in matches]
    if not whole:
        matches = _best(pack, matches, told or _unheard)
    return Search(tuple(sorted(matches, key=lambda m: m.line)), tuple(state.cut))


def _pointed(pack: Pack, windows: Iterator[Window]) -> Iterator[tuple[_Line, list[int]]]:
    """Yield each line that the scan points at, in order, with the positions of the rules to ask."""
    waiting: list[Place] = []  # offsets in the whole log
    for window in windows:
        text, offset, fresh = window.text, window.offset, window.fresh
        if fresh < len(text):
            # A match may have begun before what is fresh, if that is in the middle of a line.
            start = max(text.rfind(b"\n", 0, fresh) + 1, fresh - REACH)
            places = pack.scanner.places(text, start)
            waiting += [(offset + place, rule) for place, rule in places if place > fresh]
        settled = offset + window.settled
        ready = [(place - offset, rule) for place, rule in waiting if place < settled]
        if ready:
            waiting = waiting[len(ready) :]
            yield from _lines(window, ready)


def _lines(window: Window, places: list[Place]) -> Iterator[tuple[_Line, list[int]]]:
    at = 0
    while at < len(places):
        place = places[at][0]
        begin, end = window.line(place)
        is_short = end - begin <= 2 * REACH
        reach = end if is_short else min(end, place + REACH // 2)
        rules: dict[int, None] = {}
        while at < len(places) and places[at][0] <= reach:
            rules[places[at][1]] = None
            at += 1
        low, high = (begin, end) if is_short else (max(begin, place - REACH), min(end, reach + REACH))
        known = begin > 0 or window.line_begins
        head = window.text[begin : begin + _HEAD] if low > begin and known else b""
        yield _Line(window.text[low:high], head, begin, end, window), list(rules)


def _line(state: _State, line: _Line, positions: list[int]) -> None:
    firm = context.AGENT_ERROR.encode() in line.raw
    rules = [state.pack.rules[at] for at in sorted(positions) if at < len(state.pack.rules)]
    marked = len(rules) < len(positions)
    rules = [rule for rule in rules if state.asks(rule, firm=firm)]
    if not state.told:  # who listens wants to hear first what else refuses
        rules = [rule for rule in rules if not _hopeless(state.pack, rule, line)]
    if not rules and not marked:
        return
    for part in clean.parts(line.raw):
        if marked:
            _mark(state, line, part)
        found = [(rule, match) for rule in rules if (match := _matched(state, rule, line, part))]
        if not found:
            continue
        if _is_quoted(state, line, part):
            state.tell(line, part, None, "quoted")
            if not state.whole:
                continue
        for rule, match in found:
            _decide(state, rule, line, part, match)


def _mark(state: _State, line: _Line, part: str) -> None:
    """Take note of a line that changes what others mean."""
    if context.is_success(part) and not _is_quoted(state, line, part):
        state.drop(lambda each: each.provisional, part, line.number)
    state.reader.see(line.number, part)
    if since := state.reader.tests_ended(line.number, part):
        state.drop(lambda each: each.match.line >= since and not each.firm, part, line.number)


def _is_quoted(state: _State, line: _Line, part: str) -> bool:
    if line.head and state.reader.is_quoted(line.number, clean.text(line.head)):
        return True
    return state.reader.is_quoted(line.number, part)


def _matched(state: _State, rule: Rule, line: _Line, text: str) -> regex.Match[str] | None:
    if state.timeouts[rule.id] >= _TIMEOUTS:
        return None
    refusal: tuple[Refusal, str] | None = None
    found = None
    try:
        found = state.pack.pattern(rule.pattern).search(text, timeout=_RULE_SECONDS)
        refusal = _vetoed(state.pack, rule, text) if found else ("pattern", rule.pattern)
    except TimeoutError:
        _note_timeout(state, rule, line.number)
        refusal = "timeout", ""
    if refusal:
        state.tell(line, text, rule, *refusal)
        return None
    return found


def _vetoed(pack: Pack, rule: Rule, text: str) -> tuple[Refusal, str] | None:
    for veto in rule.unless:
        if pack.pattern(veto).search(text, timeout=_RULE_SECONDS):
            return "unless", veto
    return None


def _decide(state: _State, rule: Rule, line: _Line, part: str, found: regex.Match[str]) -> None:
    """Keep what one rule found in one text, if what stands around it fits."""
    try:
        refusal = _surroundings(state.pack, rule, line)
    except TimeoutError:
        _note_timeout(state, rule, line.number)
        refusal = "timeout", ""
    if not refusal and rule.time and not when.holds(rule.time, found.groupdict(), clean.printed(line.raw)):
        refusal = "time", rule.time
    if refusal:
        state.tell(line, part, rule, *refusal)
        return
    after = map(clean.text, line.window.after(line.end, _RETRY_LINES))
    provisional, firm = context.is_provisional([part, *after]), context.is_firm(part)
    state.tell(line, part, rule, "matched")
    if provisional:
        state.tell(line, part, rule, "provisional")
    if not state.has((rule.id, provisional, firm)):
        state.found.append(_Finding(_match(rule, line.number, part, found, state.own), provisional, firm))


def _note_timeout(state: _State, rule: Rule, number: int) -> None:
    state.timeouts[rule.id] += 1
    aside = " and was set aside" if state.timeouts[rule.id] == _TIMEOUTS else ""
    state.cut.append(f"Rule {rule.id} ran out of time on line {number}{aside}.")


def _surroundings(pack: Pack, rule: Rule, line: _Line) -> tuple[Refusal, str] | None:
    """Return the first condition that the lines around do not meet, and its pattern."""
    if not (rule.near or rule.not_near or rule.followed_by):
        return None
    if hopeless := _hopeless(pack, rule, line):
        return "near", hopeless
    around = line.around(rule.within)
    if rule.followed_by and (missing := _missing(pack, rule.followed_by, around.later.split("\n"))):
        return "followed_by", missing
    for pattern in rule.near:
        if not _stands_in(pack, pattern, around.text):
            return "near", pattern
    for pattern in rule.not_near:
        if _stands_in(pack, pattern, around.text):
            return "not_near", pattern
    return None


def _stands_in(pack: Pack, pattern: str, text: str) -> bool:
    return any(branch.search(text, timeout=_RULE_SECONDS) for branch in pack.in_turn(pattern))


def _hopeless(pack: Pack, rule: Rule, line: _Line) -> str | None:
    """Return what must match near the line and cannot: a quick look, before patterns are searched."""
    for pattern in rule.near:
        if not pack.may_hold(pattern, line.around(rule.within).low):
            return pattern
    return None


def _missing(pack: Pack, patterns: Sequence[str], lines: Iterable[str]) -> str | None:
    """Return the first pattern that matches no line of its own, in this order."""
    texts = iter(lines)
    for pattern in patterns:
        if not any(pack.pattern(pattern).search(text, timeout=_RULE_SECONDS) for text in texts):
            return pattern
    return None


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


def _unheard(_: Step) -> None:
    pass


def _best(pack: Pack, matches: list[Match], told: Callable[[Step], None]) -> list[Match]:
    """Drop what yields to another match, then keep the strongest match of each family."""
    yields = {rule.id: set(rule.yields_to) for rule in pack.rules if rule.yields_to}
    present = {match.rule for match in matches}
    best: dict[str, Match] = {}
    for match in sorted(matches, key=lambda each: each.strength, reverse=True):
        if winners := yields.get(match.rule, set()) & present:
            told(Step(match.line, match.excerpt, match.rule, "yields", min(winners)))
        elif (strongest := best.setdefault(match.credential, match)) is not match:
            told(Step(match.line, match.excerpt, match.rule, "weaker", strongest.rule))
    return list(best.values())
