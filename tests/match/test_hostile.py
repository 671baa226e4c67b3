"""Lines made to keep the masking busy: its time must grow with their length and not faster."""

from __future__ import annotations

import base64
import time
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.match import planted
from triage.match import issuers, redact, shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHORT, LONG = 4_000, 64_000
GROWTH = 2.5 * LONG / SHORT  # of the time; a square would be 16 times the growth of the length
NOISE = 0.025  # seconds that a busy machine may add to nothing

SHAPES = (*issuers.TOKENS, *issuers.azure_keys(), *shapes.NAMED)
FILLERS = ("", "a", "=", ": ", "A1b2c3", "\\", "%25", " '", "\x1b[0m")
UNITS = (
    "://a:", "key=", "key=key=key=", "a=", "=a1", "a ", "aB3", "/", "+", ".", "'", "\x1b[0m", "\x1b[0ma",
    "%41", "%2525", "\\\\", "\\u0041", "&amp;", "&#x41;", "eyJ.", "eyJhbGci.", "-----BEGIN PRIVATE KEY-----",
    "password='", 'password="\\', "<password ", "<password>", "name='password' value='", "x-a-a-", "--a-a-a-",
    "login ", "login -p", "push ", "push -k ", "curl -u a", "?a_token=", "sha512-", "hash '", "QUFBQUFBQUFB ",
    "##vso[task.setvariable issecret=true]", "A_TOKEN=", "A_", base64.b64encode(b"password=nothing1").decode() + " ",
)  # fmt: skip


def repeated(unit: str, length: int) -> str:
    return (unit * (length // len(unit) + 1))[:length]


def nested(length: int) -> str:
    data = b"password=nothing1"
    while len(data) < length:
        data = base64.b64encode(data)
    return data.decode()[:length]


def many_values(length: int) -> str:
    return " ".join(f"password={number}secret" for number in range(length))[:length]


def many_encoded_values(length: int) -> str:
    values = (f"password={number}secret" for number in range(length // 16))
    return " ".join(base64.b64encode(value.encode()).decode() for value in values)[:length]


def units() -> Iterator[tuple[str, str]]:
    for shape in SHAPES:
        for filler in ("", "=", " a"):
            yield f"{shape.about}, {filler!r}", "".join(literal + filler for literal in shape.literals) or "a"
        yield (
            f"{shape.about}, all",
            "".join(word + each for word in shape.literals for each in FILLERS) or "a",
        )
    for filler in FILLERS:
        yield f"all, {filler!r}", "".join(word + filler for shape in SHAPES for word in shape.literals)
    for unit in UNITS:
        yield unit, unit


def seconds(text: str) -> float:
    started = time.process_time()
    redact.mask(text)
    return time.process_time() - started


def growth(short: str, long: str) -> float:
    """Return how often the time for a short text passes while a long one is masked."""
    return seconds(long) / max(seconds(short), NOISE)


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be given up, for that would be quick."""
    monkeypatch.setattr(redact, "_SECONDS", 100)


def test_time_grows_with_the_length_of_hostile_lines() -> None:
    grown = {name: growth(repeated(unit, SHORT), repeated(unit, LONG)) for name, unit in units()}
    assert {name: factor for name, factor in grown.items() if factor > GROWTH} == {}


@pytest.mark.parametrize("make", [nested, many_values, many_encoded_values])
def test_time_grows_with_the_length_of_encoded_and_of_many_secrets(make: Callable[[int], str]) -> None:
    assert growth(make(SHORT), make(LONG)) < GROWTH


@pytest.mark.parametrize("encoding", planted.ENCODINGS)
def test_time_grows_with_the_number_of_secrets(encoding: str) -> None:
    chance = Random(encoding)
    encode = planted.ENCODINGS[encoding]
    lines = [encode(kind.lines[0].format(kind.make(chance).text)) for kind in chance.sample(planted.KINDS, 9)]
    unit = " ".join(lines)
    assert growth(repeated(unit, SHORT), repeated(unit, LONG)) < GROWTH
