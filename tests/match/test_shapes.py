from __future__ import annotations

from functools import cache
from random import Random
from typing import TYPE_CHECKING, TypeAlias

import pytest

from tests.match import leaks, planted
from triage.match import issuers, redact, shapes

if TYPE_CHECKING:
    from triage.match.shapes import Shape

Spans: TypeAlias = list[tuple[int, int]]

LATER = 1e9
KINDS = (*planted.KINDS, planted.LINE_OF_A_KEY)
OURS = (*issuers.TOKENS, *shapes.NAMED)
AZURE = [shape for shape in issuers.azure_keys() if shape.about != "SecretScanningSampleToken"]


@cache
def trials() -> list[tuple[str, str, dict[Shape, Spans]]]:
    """Return lines, the secret in each, and what each shape finds in it."""
    found = []
    for kind in KINDS:
        for line in kind.lines:
            secret = kind.make(Random(kind.name + line))
            text = line.format(secret.text)
            where = {shape: list(redact._matches(shape, text, LATER)) for shape in (*OURS, *AZURE)}
            found.append(
                (text, written(secret, text), {each: spans for each, spans in where.items() if spans})
            )
    return found


def written(secret: planted.Secret, text: str) -> str:
    """Return what must not be seen, as it stands in a text: of some kinds in base64."""
    return secret.part if any(piece in text for piece in leaks.pieces(secret.part)) else secret.text


def hides(text: str, secret: str, spans: Spans) -> bool:
    masked = redact._covered(text, spans)
    return not any(piece in masked for piece in leaks.pieces(secret))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_shape_hides_every_secret(kind: planted.Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a test fails when a shape or a prefix is lost, even where the letters alone look like a key."""
    monkeypatch.setattr(redact, "_by_chance", lambda _text: iter(()))
    for number in range(60):
        line = kind.lines[number % len(kind.lines)]
        secret = kind.make(Random(number))
        text = line.format(secret.text)
        masked = redact.mask(text)
        shown = any(piece in masked for piece in leaks.pieces(written(secret, text)))
        assert shown == (kind.name == "letters by chance"), line


@pytest.mark.parametrize("shape", OURS, ids=lambda shape: shape.about)
def test_every_shape_hides_a_secret_that_no_other_hides(shape: Shape) -> None:
    for text, secret, found in trials():
        others = [span for other, spans in found.items() if other is not shape for span in spans]
        own = found.get(shape, [])
        if own and hides(text, secret, others + own) and not hides(text, secret, others):
            return
    pytest.fail("the tests would pass without it")


@pytest.mark.parametrize("shape", AZURE, ids=lambda shape: shape.about)
def test_every_pattern_of_microsoft_finds_a_secret(shape: Shape) -> None:
    assert any(shape in found for _, _, found in trials())


def test_a_shape_is_tried_on_all_that_it_matches() -> None:
    """Only literals and a long run of letters tell which shapes to try."""
    for text, _, found in trials():
        longest = max(map(len, redact._RUN.findall(text)), default=0)
        assert set(found) <= set(redact._shapes(text, longest)), text


def test_every_prefix_of_a_token_is_known() -> None:
    made = [
        kind.lines[number % len(kind.lines)].format(kind.make(Random(number)).text)
        for kind in planted.KINDS
        for number in range(99)
    ]
    for shape in issuers.TOKENS:
        for literal in shape.literals:
            assert any(literal in text and shape.compiled.search(text) for text in made), literal
