"""Propose a pattern for a line of a log: its words stay, what changes from run to run is captured. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from triage.errors import UsageError
from triage.match import clean, context, redact
from triage.match.rule import compiled

if TYPE_CHECKING:
    from collections.abc import Sequence

_TAG = re.compile(r"^##\[(?:error|warning)\]\s*")
# What the agent says of every failed step: it tells nothing of the cause.
_EPILOGUE = re.compile(
    r"^(?:Bash|PowerShell|Cmd\.exe|Script|The process .{0,200}|.{0,80}?command|Process)\b.{0,40}?"
    r"(?:exited with|failed with (?:an )?(?:error|exit code)|wrote .{0,20} lines to the standard error)",
    re.IGNORECASE,
)
_COMPLAINT = re.compile(
    r"\b(?:error|fatal|denied|unauthori[sz]ed|forbidden|refused|expired|revoked|invalid|failed|40[13])\b",
    re.IGNORECASE,
)
_PATTERN_TEXT = 300  # characters of a line that a pattern is made of
_EXAMPLE_TEXT = 1000  # characters of a line that become the example
_MASKED_TEXT = 32 * 1024  # characters in which secrets are looked for: far more, so that none is cut in two
_SPECIAL = re.compile(r"[\\^$.|?*+()\[\]{}]")
_WORD_BEFORE = re.compile(r"([A-Za-z][A-Za-z_]{1,30})\W{0,4}$")
_NO_NAMES = frozenset(
    ["the", "for", "of", "to", "at", "in", "is", "with", "from", "on", "by", "and", "a", "an", "https"]
)
_HOST = (
    r"(?:[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?\.){1,8}(?:com|net|org|io|dev|cn|us|de|eu|local|cloud|example)"
)
_GUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_DATE = r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z| ?[+-]\d\d:?\d\d| UTC)?)?"


@dataclass(frozen=True)
class _Kind:
    """Something that changes from run to run: how it looks, what to call it and what stands for it."""

    shape: str
    name: str  # when the word before it gives none; empty: not captured
    pattern: str
    is_named_before: bool = True


_KINDS = {
    "mask": _Kind(r"\*{3,}", "", r"\S{1,200}"),
    "guid": _Kind(rf"\b{_GUID}\b", "id", r"[0-9a-f-]{36}"),
    "url": _Kind(
        r"https?://(?P<login>[^\s/@'\"]{1,100}@)?[\w.:-]*\w(?P<rest>[/?#][^\s'\"<>()\[\],;]*)?",
        "host",
        r"[\w.:-]{1,100}",
        is_named_before=False,
    ),
    "mail": _Kind(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", "user", r"[^\s@]{1,100}@[\w.-]{1,100}"),
    "date": _Kind(rf"\b{_DATE}", "date", r"[\d:.TZ UTC+-]{10,40}"),
    "address": _Kind(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", "host", r"[\d.:]{7,21}", is_named_before=False),
    "host": _Kind(rf"\b{_HOST}\b(?::\d+)?", "host", r"[\w.:-]{1,100}", is_named_before=False),
    "path": _Kind(r"(?<![\w.])(?:/[\w.@-]+){2,}/?|\b[A-Z]:\\[^\s'\"]+", "", r"\S{1,200}"),
    "single": _Kind(r"(?<!\w)'(?!https?:)[^'\s]{1,100}'", "name", r"[^']{1,100}"),
    # not the keys and values of JSON: these are the message's own words
    "double": _Kind(r'(?<![:{,\[])(?<!: )"(?!https?:)[^"\s]{1,100}"(?!\s*:)', "name", r'[^"]{1,100}'),
    "hash": _Kind(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12,64}\b", "hash", r"[0-9a-f]{12,64}"),
    "spaces": _Kind(r"\s{2,}", "", r"\s{1,20}"),
    "code": _Kind(r"\b[1-5]\d\d\b", "", ""),  # a status says what happened: it stays
    "number": _Kind(r"(?<![\w.-])\d+(?![\w-]|\.\d)", "number", r"\d{1,20}"),
}
_MADE_UP = {
    "guid": "11111111-2222-3333-4444-555555555555",
    "mail": "ada@contoso.example",
    "address": "192.0.2.1",
}
_CHANGING = re.compile("|".join(f"(?P<{name}>{kind.shape})" for name, kind in _KINDS.items()), re.IGNORECASE)


@dataclass(frozen=True)
class Draft:
    """What can be known of a rule from one line."""

    line: int
    text: str  # masked: what goes into the example
    pattern: str
    captures: dict[str, str]
    verdict: str


def from_log(log: bytes, line: int | None) -> Draft:
    """Draft a rule from the likely line of a log, or from the one given. Raises UsageError."""
    texts = clean.shown(log)
    if line is not None and not (1 <= line <= len(texts) and texts[line - 1]):
        raise UsageError(f"The log has no text on line {line}; it has {len(texts)} lines.")
    number = line or _likely(texts)
    near = _around(texts[number - 1].strip().rsplit("\n", 1)[-1], _MASKED_TEXT)
    text = _around(anonymous(redact.mask(near)), _EXAMPLE_TEXT)
    proposed = pattern(text)
    found = compiled(proposed).search(text)
    captures = found.groupdict() if found else {}
    return Draft(number, text, proposed, {k: v for k, v in captures.items() if v is not None}, verdict(text))


def _likely(texts: Sequence[str]) -> int:
    """Return the number of the last error line that says more than that the step failed."""
    told = [(number, _TAG.sub("", text)) for number, text in enumerate(texts, 1) if text]
    told = [(number, text) for number, text in told if not _EPILOGUE.match(text)]
    tagged = [number for number, _ in told if context.is_firm(texts[number - 1])]
    complaints = [number for number, text in told if _COMPLAINT.search(text)]
    if not (tagged or complaints):
        raise UsageError("No line of the log looks like an error; name the line with --line.")
    return (tagged or complaints)[-1]


def _around(text: str, characters: int) -> str:
    """Return of a long line the part around the word that complains."""
    if len(text) <= characters:
        return text.strip()
    complaint = _COMPLAINT.search(text)
    start = max(0, (complaint.start() if complaint else 0) - characters // 4)
    return text[start : start + characters].strip()


def pattern(text: str) -> str:
    """Return a pattern that matches this line and its like."""
    text = _around(_TAG.sub("", text), _PATTERN_TEXT)
    parts: list[str] = []
    names: set[str] = set()
    at = 0
    for found in _CHANGING.finditer(text):
        if found.start() == at and at:
            continue  # two things that change must not stand side by side
        kind = next(name for name in _KINDS if found[name])
        parts += [_literal(text[at : found.start()]), _part(kind, found, text, names)]
        at = found.end()
    return "".join([*parts, _literal(text[at:])])


def anonymous(text: str) -> str:
    """Return the text with made-up ids, people and addresses in the place of real ones."""
    for kind, made_up in _MADE_UP.items():
        text = re.sub(_KINDS[kind].shape, made_up, text, flags=re.IGNORECASE)
    return text


def verdict(text: str) -> str:
    """Guess what a line proves; the author decides."""
    for word, meaning in (
        (r"expired|lapsed|past its end|no longer valid", "expired"),
        (r"revoked", "revoked"),
        (r"missing|not (?:set|provided|found|specified)|no (?:credentials?|token|password)\b", "missing"),
    ):
        if re.search(word, text, re.IGNORECASE):
            return meaning
    return "rejected"


def _part(kind: str, found: re.Match[str], text: str, names: set[str]) -> str:
    """Write what stands for one thing that changes, with what encloses it."""
    this, whole = _KINDS[kind], found.group()
    if not this.pattern:
        return _literal(whole)
    name = this.name and _name(this, text[: found.start()], names)
    group = f"(?<{name}>{this.pattern})" if name else this.pattern
    if kind in ("single", "double"):
        return f"{whole[0]}{group}{whole[0]}"
    if kind == "url":
        login, rest = (found[part] is not None for part in ("login", "rest"))
        return "https?://" + r"[^\s/@]{1,100}@" * login + group + r"[^\s'\"]{0,200}" * rest
    return group


def _name(kind: _Kind, before: str, names: set[str]) -> str:
    """Call a capture by the word before it, or else by its kind; each name once."""
    word = _WORD_BEFORE.search(before)
    name = word[1].lower() if word and kind.is_named_before else kind.name
    name = kind.name if name in _NO_NAMES else name
    if kind is _KINDS["date"] and (name == kind.name or "expir" in name) and "expir" in before.lower():
        name = "not_after"  # what a rule's `time` compares
    count = 2
    base = name
    while name in names:
        name, count = f"{base}_{count}", count + 1
    names.add(name)
    return name


def _literal(text: str) -> str:
    return _SPECIAL.sub(lambda found: "\\" + found.group(), text).replace("\t", r"\s{1,20}")
