"""`triage rules try`: one rule on one log, and for every line that comes near it why it matched or not.

The engine itself tells what it decides (match/step.py): once with the rule alone and the context of lines
ignored, once with the whole pack as for a real run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from triage import catalogue
from triage.authoring import reach
from triage.errors import RulePackError, UsageError
from triage.match import build, by_words, load, redact, search
from triage.match.linear import parse, required
from triage.match.rule import compiled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from triage.domain import Match
    from triage.match import Rule
    from triage.match.step import Step

_EXPLAINED = 5  # lines whose distance from the pattern is worked out
_TEXT_MAX = 300  # characters of a line that are shown
_LARGE = 1024 * 1024  # bytes of a log for which the quick scan is worth its two seconds of preparation
# Stands in for what a rule being written may still lack: to try it, none of this is needed.
_NOT_NEEDED: Mapping[str, object] = {
    "title": "not written yet",
    "references": ["-"],
    "examples": [{"log": "-"}],
    "counter_examples": [{"log": "-", "reason": "-"}],
}


@dataclass(frozen=True)
class Told:
    """A line of the log that comes near the rule, and what becomes of it."""

    line: int
    text: str
    outcome: Literal["matches", "refused", "left out", "dropped"]
    why: tuple[str, ...]
    captures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    """What one rule makes of one log."""

    rule: Rule
    lines: tuple[Told, ...]
    conclusion: str
    reported: bool


def read(folder: Path, named: str) -> tuple[Rule, list[Rule]]:
    """Return the rule to try, by its id or file, and the other rules of the pack.

    Raises UsageError when there is none of that name, RulePackError when its file is wrong.
    """
    rules, _ = load.read(folder)
    file = Path(named)
    if file.suffix != ".toml":
        file = next(iter(sorted(folder.rglob(f"{named}.toml"))), file)
    if not file.is_file():
        near = catalogue.close(file.stem, [rule.id for _, rule in rules])
        raise UsageError(f"{named!r} is neither a rule of the pack nor a rule's file{near}")
    rule, wrong = load.read_one(file, _NOT_NEEDED)
    if rule is None:
        raise RulePackError([f"{load.file_name(folder, file)}: {each}" for each in wrong])
    return rule, [each for _, each in rules if each.id != rule.id]


def as_json(made: Attempt) -> dict[str, object]:
    """Return an attempt as `--format json` prints it."""
    lines = [
        {
            "line": told.line,
            "text": told.text,
            "outcome": told.outcome,
            "why": list(told.why),
            "captures": dict(told.captures),
        }
        for told in made.lines
    ]
    return {
        "rule": made.rule.id,
        "reported": made.reported,
        "conclusion": made.conclusion,
        "lines": lines,
    }


def run(rule: Rule, others: Sequence[Rule], log: bytes) -> Attempt:
    """Try a rule on a log."""
    alone: list[Step] = []
    matches = search(by_words([rule]), [log], whole=True, told=alone.append).matches
    among: list[Step] = []
    pack = (build if len(log) > _LARGE else by_words)([*others, rule])
    found = search(pack, [log], told=among.append).matches
    fates = {step.line: step for step in among if step.rule == rule.id and step.decision in _FATES}
    asked = {step.line for step in among if step.rule == rule.id and step.decision == "matched"}
    on_line = {match.line: match for match in matches}
    lines = tuple(_lines(rule, alone, on_line, fates, asked)) or tuple(_nearest(rule, log))
    reported = any(match.rule == rule.id for match in found)
    return Attempt(rule, lines, _conclusion(rule, lines, found), reported)


# What a line's steps mean, in words.

_FATES = ("overcome", "yields", "weaker")


def _lines(
    rule: Rule,
    steps: Sequence[Step],
    matches: Mapping[int, Match],
    fates: Mapping[int, Step],
    asked: AbstractSet[int],
) -> Iterator[Told]:
    """Yield what becomes of each text that the rule was asked about; a line can show several in turn."""
    quoted = {(step.line, step.text) for step in steps if step.decision == "quoted"}
    provisional = {(step.line, step.text) for step in steps if step.decision == "provisional"}
    far = 0
    for step in steps:
        key = (step.line, step.text)
        if not step.rule or step.decision in ("provisional", *_FATES):
            continue
        if step.decision != "matched":
            far += step.decision == "pattern"
            why = _refusal(rule, step, far=far > _EXPLAINED)
            yield Told(step.line, _short(step.text), "refused", (why,))
            continue
        match = matches[step.line]
        text = _short(step.text, match)
        if key in quoted:
            yield Told(step.line, text, "left out", (_QUOTED,), match.captures)
        elif step.line in fates:
            yield Told(step.line, text, "dropped", (_fate(fates[step.line]),), match.captures)
        else:
            notes = (_PROVISIONAL,) * (key in provisional) + (_SPOKEN,) * (step.line not in asked)
            yield Told(step.line, text, "matches", notes, match.captures)


def _nearest(rule: Rule, log: bytes) -> Iterator[Told]:
    """Yield the lines that come nearest to a rule that no line was asked about."""
    for number, text in reach.nearest(rule.pattern, log):
        why = f"pattern does not match: {reach.told(rule.pattern, text)}"
        yield Told(number, _short(text), "refused", (why,))


_QUOTED = (
    "the line only quotes a message (a script's source, a trace, a test's report, …); "
    "in a real run no rule is asked about it"
)
_PROVISIONAL = (
    "provisional: the line, or one of the two after it, announces another attempt; "
    "it would be dropped if a later line told of success"
)
_SPOKEN = "a line before it matched: in a real run a rule is asked until it has matched once"
_REFUSED = {
    "unless": "unless vetoes: {pattern} matches the same line",
    "near": "near is not met: nothing within {within} lines before or after matches {pattern}",
    "not_near": "not_near vetoes: within {within} lines before or after, something matches {pattern}",
    "followed_by": "followed_by is not met: none of the next {within} lines{order} matches {pattern}",
    "timeout": "a pattern ran out of time on this line; make it simpler",
}


def _refusal(rule: Rule, step: Step, *, far: bool) -> str:
    if step.decision == "pattern":
        return "pattern does not match" + ("" if far else f": {reach.told(rule.pattern, step.text)}")
    if step.decision == "time":
        return f"time is not met: {_dates(rule, step.text)} do not prove {rule.time!r}"
    order = " that are left, in this order," if len(rule.followed_by) > 1 else ""
    return _REFUSED[step.decision].format(pattern=f"‹{step.detail}›", within=rule.within, order=order)


def _fate(step: Step) -> str:
    match step.decision:
        case "overcome":
            return f"overcome: line {step.detail} tells that a later attempt succeeded"
        case "yields":
            return f"yields to {step.detail}, which matches this log too (yields_to)"
        case _:
            return f"weaker than {step.detail}, which speaks for the same family of credentials"


def _dates(rule: Rule, text: str) -> str:
    """Return what a message's dates are, and where the present comes from."""
    found = compiled(rule.pattern).search(redact.mask(text))
    stated = {name: value for name, value in (found.groupdict() if found else {}).items() if value}
    dates = [f"{name} = {stated[name]}" for name in ("not_before", "not_after", "current") if name in stated]
    if "current" not in stated:
        dates.append("the line's own time stamp, if it has one,")
    return " and ".join(dates)


def _conclusion(rule: Rule, lines: Sequence[Told], found: Sequence[Match]) -> str:
    mine = [match.line for match in found if match.rule == rule.id]
    others = [f"{match.rule} (line {match.line})" for match in found if match.rule != rule.id]
    besides = f" It reports {', '.join(others)}." if others else " It reports nothing else."
    if mine:
        return f"triage reports {rule.id} on line {mine[0]}." + (besides if others else "")
    return f"triage does not report {rule.id}: {_reason(rule, lines)}.{besides}"


def _reason(rule: Rule, lines: Sequence[Told]) -> str:
    if not lines:
        words = " or ".join(repr(word.decode()) for word in required(parse(rule.pattern)))
        return f"no line holds what every match needs, {words}"
    outcomes = {told.outcome for told in lines}
    if "dropped" in outcomes:
        return "what it matches is dropped"
    return "what it matches is only quoted" if "left out" in outcomes else "no line meets all it asks for"


def _short(text: str, match: Match | None = None) -> str:
    """Return a line as it is shown: masked, and of a long one what matched or else its beginning."""
    masked = redact.mask(text.strip())
    if len(masked) <= _TEXT_MAX:
        return masked
    return match.excerpt if match else masked[:_TEXT_MAX] + "…"
