"""The rules, made ready to search with."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from triage.match import context, linear, prescan
from triage.match.rule import compiled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import regex

    from triage.match.prescan import Scanner
    from triage.match.rule import Rule


# What most messages of refusal hold, and few other lines: what the sieve looks for first.
_REFUSALS = (
    "401, 403, aadsts, access, account, already, aptcha, authentic, authori, cannot, certificat, could, "
    "credential, deleted, denied, disabled, disallow, does not, error, exceed, expire, failed, failure, "
    "forbidden, identity, incorrect, invalid, key, licen, locked, logged, login, missing, must, n't, not a, "
    "not found, not_, oauth, ora-, passphrase, password, permission, please, policy, provision, refuse, "
    "refusing, registration, reject, required, revoke, sasl, secret, session, sign in, signature, subscript, "
    "succe, token, unable, unauthor, unavail, unrecog, username, valid, wrong, x509"
)
_COMMON = tuple(_REFUSALS.encode().split(b", "))


@dataclass(frozen=True)
class Pack:
    """The rules, and what points at the places of a log that one of them may fit.

    The scanner's positions beyond the rules' are those of `context.MARKS`.
    """

    rules: tuple[Rule, ...]
    scanner: Scanner = field(repr=False)
    compiled: dict[str, regex.Pattern[str]] = field(repr=False, default_factory=dict)
    branches: dict[str, list[regex.Pattern[str]]] = field(repr=False, default_factory=dict)
    held: dict[str, tuple[bytes, ...]] = field(repr=False, default_factory=dict)

    def pattern(self, source: str) -> regex.Pattern[str]:
        """Return a compiled pattern; compiled when first needed."""
        if source not in self.compiled:
            self.compiled[source] = compiled(source)
        return self.compiled[source]

    def in_turn(self, source: str) -> list[regex.Pattern[str]]:
        """Return a pattern's branches: in a long text it takes a fraction of the time to look for each."""
        if source not in self.branches:
            self.branches[source] = [self.pattern(branch) for branch in linear.branches(source)]
        return self.branches[source]

    def may_hold(self, source: str, low: bytes) -> bool:
        """Return False when a pattern cannot match in a text, given in lower case: a quick first look."""
        if source not in self.held:
            self.held[source] = linear.held(linear.parse(source))
        words = self.held[source]
        for word in words:  # a loop, for `any` takes twice as long here
            if word in low:
                return True
        return not words


@dataclass(frozen=True)
class Prepared:
    """What takes time to make of rules and can be kept: for either scanner."""

    sieve: list[str]  # words; what any rule matches holds one
    words: dict[str, list[int]]
    databases: tuple[bytes, bytes] | None = None  # of the sieve and the patterns; none without Hyperscan

    def scanner(self) -> Scanner:
        """Return the fastest scanner that this machine has."""
        if self.databases:
            return prescan.PatternScanner(*self.databases)
        words = {word.encode(): rules for word, rules in self.words.items()}
        return prescan.WordScanner([word.encode() for word in self.sieve], words)


def build(rules: Sequence[Rule]) -> Pack:
    """Make a pack of rules that are known to be right."""
    return Pack(tuple(rules), prepare(rules).scanner())


def by_words(rules: Sequence[Rule]) -> Pack:
    """Make a pack quickly; it is searched by words, so that lines a pattern almost fits are pointed at."""
    words = _words(_parsed(rules))
    return Pack(tuple(rules), Prepared(list(words), words).scanner())


def prepare(rules: Sequence[Rule]) -> Prepared:
    """Do once for a pack what takes time."""
    parsed = _parsed(rules)
    sieve = _sieve(parsed)
    databases = None
    with suppress(ImportError):
        patterns = [linear.superset(parts) for parts in parsed]
        databases = prescan.compiled(map(linear.literal, sieve)), prescan.compiled(patterns)
    return Prepared([word.decode() for word in sieve], _words(parsed), databases)


def _parsed(rules: Iterable[Rule]) -> list[list[linear.Part]]:
    return [linear.parse(rule.pattern) for rule in rules] + [linear.parse(mark) for mark in context.MARKS]


def _sieve(parsed: Iterable[list[linear.Part]]) -> list[bytes]:
    more = {word for parts in parsed for word in linear.sieve(parts, _COMMON)}
    return sorted({*_COMMON, *more})


def _words(parsed: Iterable[list[linear.Part]]) -> dict[str, list[int]]:
    words: dict[str, list[int]] = {}
    for position, parts in enumerate(parsed):
        for word in linear.required(parts) or linear.sieve(parts, ()):  # a mark may have short ones alone
            words.setdefault(word.decode(), []).append(position)
    return words
