"""One rule, as its file states it."""

from __future__ import annotations

from typing import Literal

import regex
from pydantic import BaseModel, ConfigDict, Field, field_validator

from triage.domain import Confidence, Verdict
from triage.match import linear

_PATTERN_MAX = 1024


class Example(BaseModel):
    """Text that a rule must match, where, and what it must capture."""

    model_config = ConfigDict(extra="forbid")
    log: str
    line: int = 1
    captures: dict[str, str] = Field(default_factory=dict)


class CounterExample(BaseModel):
    """Text that a rule must not match, and why not."""

    model_config = ConfigDict(extra="forbid")
    log: str
    reason: str = Field(min_length=1)


class Rule(BaseModel):
    """One file of rules/, its keys in the order they stand there."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str = Field(min_length=1)
    credential: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    verdict: Verdict
    confidence: Confidence
    status: Literal["stable", "experimental"]
    connection_types: list[str] = Field(default_factory=list)
    explanation: str = ""
    advice: str = ""
    pattern: str = Field(min_length=1, max_length=_PATTERN_MAX)
    unless: list[str] = Field(default_factory=list)
    near: list[str] = Field(default_factory=list)
    not_near: list[str] = Field(default_factory=list)
    followed_by: list[str] = Field(default_factory=list)
    within: int = Field(default=10, ge=1, le=50)
    time: Literal["", "expired", "early", "drift"] = ""
    yields_to: list[str] = Field(default_factory=list)
    false_positives: list[str] = Field(default_factory=list)
    references: list[str] = Field(min_length=1)
    examples: list[Example] = Field(min_length=1)
    counter_examples: list[CounterExample] = Field(min_length=1)

    @field_validator("pattern")
    @classmethod
    def _has_a_word(cls, pattern: str) -> str:
        parts = linear.parse(pattern)
        compiled(pattern)
        if not linear.required(parts):
            raise ValueError(
                "points at too many lines: every match must hold a word of "
                f"{linear.LITERAL_MIN} letters or more, not only digits"
            )
        return pattern

    @field_validator("unless", "near", "not_near", "followed_by")
    @classmethod
    def _all_compile(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            linear.parse(pattern)
            compiled(pattern)
        return patterns


def compiled(pattern: str) -> regex.Pattern[str]:
    """Compile a pattern of a rule: case is ignored, and classes such as word mean ASCII as in the scan.

    ValueError when it is no pattern.
    """
    try:  # near: ^ and $ of lines
        return regex.compile(pattern, regex.IGNORECASE | regex.MULTILINE | regex.ASCII)
    except regex.error as error:
        raise ValueError(f"is no valid regular expression: {error}") from None
