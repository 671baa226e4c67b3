from __future__ import annotations

import random

import hyperscan
import pytest
import regex

from triage.match import linear
from triage.match.rule import compiled

FLAGS = hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_MULTILINE


def found(pattern: str, text: bytes) -> bool:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(expressions=[linear.superset(linear.parse(pattern)).encode()], ids=[0], flags=[FLAGS])
    places: list[int] = []

    def on_match(_id: int, _from: int, end: int, _flags: int, _context: object) -> None:
        places.append(end)

    database.scan(text, match_event_handler=on_match)
    return bool(places)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"(?<!not )expired key '(?<name>[^']{1,40})'(?! at all)", "expired key 'Schlüssel'"),
        (r"Token .{3}valid", "Token …≠…valid"),
        (r"key\b.{0,400}?(?:is expired|has ended)$", "key " + "ü" * 399 + "has ended"),
        (r"^\s*npm (?:ERR!|error) code E401\b", "  npm ERR! code E401"),
        (r"[‘'](?<app>[^’']{1,80})[’'] are expired", "‘***’ are expired"),
        (r"(?>users|user) refused\s{2,}here", "USERS refused \t here"),
        (r"K[^\s:]+: kelvin", "Kü: KELVIN"),
        (r"AADSTS(?<code>70008[24]|70043)\D", "aadsts700084é"),
        (r"login[\W_]{1,3}refused", "login →_refused"),
        (r"Zertifikat abgelaufen (?:für|von) \d{2,4}\.", "zertifikat abgelaufen für 2026."),
        (r"end of line\r?", "END OF LINE"),
    ],
)
def test_a_superset_points_wherever_the_pattern_matches(pattern: str, text: str) -> None:
    assert compiled(pattern).search(text)
    assert found(pattern, text.encode())


@pytest.mark.parametrize(
    ("text", "stands_alone"),
    [
        (b"Unauthorized", True),
        (b"before\nUnauthorized.  \nafter", True),
        (b"2026-11-21T03:12:00.1234567Z unauthorized\r\n", True),
        (b"2026-11-21T03:12:00.1234567ZUnauthorized", True),
        (b" 10%\rUnauthorized\r100%", True),
        (b"Error: Unauthorized", False),
        (b"unauthorized access", False),
    ],
)
def test_a_line_is_known_by_where_it_begins_and_ends(text: bytes, *, stands_alone: bool) -> None:
    assert found(r"^Unauthorized\.?\s*$", text) == stands_alone
    assert found(r"^(?:nothing|[A-Z]nauthorized\.?\s{0,3}$)", text) == stands_alone


def test_where_a_line_begins_is_not_asked_before_any_text() -> None:
    assert linear.superset(linear.parse(r"^.{0,99}token$")) == r"token(?:$|\x0d)"


@pytest.mark.parametrize(
    ("pattern", "branches"),
    [
        ("one", ["one"]),
        ("one|two", ["one", "two"]),
        (
            r"a[|]b|(c|(?:d|e))|\||[^]|]f|[]|g]|\(|\[|h",
            ["a[|]b", "(c|(?:d|e))", r"\|", "[^]|]f", "[]|g]", r"\(", r"\[", "h"],
        ),
        ("|x", ["", "x"]),
    ],
)
def test_a_pattern_has_branches(pattern: str, branches: list[str]) -> None:
    assert linear.branches(pattern) == branches


def test_a_match_never_reaches_over_a_line_end() -> None:
    assert not found(r"first word[^x]{0,9}second word", b"first word\nsecond word")
    assert not found(r"first word\s+second word", b"first word\nsecond word")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"AADSTS(?:700082|70043): ", {b"aadsts700082: ", b"aadsts70043: "}),
        (r"(?<a>[a-z]+)\.azurecr\.io.{0,99}unauthorized: refused", {b"unauthorized: refused"}),
        (
            r"(?:one|two) is (?:expired|old)",
            {b"one is expired", b"two is expired", b"one is old", b"two is old"},
        ),
        (r"x{2}abcdef?", {b"abcde"}),
        (r"schlüssel .", {"schlüssel ".encode()}),
        (r"401|403", set()),
        (r"a b c", set()),
        (r"expired|\d+", set()),
        (r"(?:maybe this)?", set()),
    ],
)
def test_the_words_that_every_match_holds_are_known(pattern: str, words: set[bytes]) -> None:
    assert set(linear.required(linear.parse(pattern))) == words


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?:a+)+token",
        r"(?:[a-z]+ ?)*token",
        r"(?:(?:a|b{2,99})){3,}token",
        r"token.*.*end",
        r"token\S{0,200}.{0,200}end",
        r"token[^']{0,99}x?[a-z]{0,99}end",
        r"(to)ken\1",
        r"(?P<a>to)ken(?P=a)",
        r"(?=(?:a+)+)token",
        r"token(",
    ],
)
def test_what_could_take_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"is no valid|repeat|refers back"):
        linear.parse(pattern)


def test_a_superset_misses_nothing_that_random_patterns_match() -> None:
    chance = random.Random(20261121)
    atoms = [
        "token",
        "[a-c]",
        r"\d",
        r"\s",
        ".",
        "(?:ab|cé)",
        "x?",
        "[^'\\n]{1,3}",
        r"\w{2,}",
        "ü",
        "(?=t)",
        r"\b",
        "y+",
    ]
    letters = ["token", "a", "b", "c", "é", "ü", "x", "y", "1", " ", "'", "→", "\t", "ab"]
    tried = 0
    for _ in range(6000):
        begin, end = chance.choice(["", "", "^", r"^\s*", "^x?"]), chance.choice(["", "", "$", "(?:y|$)"])
        pattern = begin + "token" + "".join(chance.choices(atoms, k=chance.randint(1, 5))) + end
        before, after = (chance.choices(letters, k=chance.choice([0, 0, 2, 12])) for _ in range(2))
        text = "".join([*before, "token", *after])
        try:
            parts = linear.parse(pattern)
        except ValueError:
            continue
        match = regex.search(compiled(pattern), text)
        if match and tried < 400:
            tried += 1
            assert found(pattern, text.encode()), (pattern, text)
            assert any(word in text.encode().lower() for word in linear.required(parts)), (pattern, text)
    assert tried > 200


def test_what_a_pattern_looks_ahead_at_first_is_what_the_scan_looks_for() -> None:
    parts = linear.parse(r"^(?=.{0,300}?\bwidgetctl)(?:.{0,400}?)(?:401|invalid token)")
    assert linear.superset(parts) == "widgetctl"
    assert linear.required(parts) == (b"widgetctl",)
