"""One rule, as its file states it."""

from __future__ import annotations

from typing import Literal

import regex
from pydantic import BaseModel, ConfigDict, Field, field_validator

from triage.domain import Confidence, Verdict
from triage.match import linear

_PATTERN_MAX = 1024


# The descriptions below are what `rules new` writes beside a key and what editors show (rules schema).


class Example(BaseModel):
    """Text that a rule must match, where, and what it must capture."""

    model_config = ConfigDict(extra="forbid")
    log: str = Field(min_length=1, description="what the tool printed; secrets, hosts and people replaced")
    line: int = Field(default=1, description="the line of `log` that the pattern matches")
    captures: dict[str, str] = Field(
        default_factory=dict, description="what the named groups of the pattern capture, all of it"
    )


class CounterExample(BaseModel):
    """Text that a rule must not match, and why not."""

    model_config = ConfigDict(extra="forbid")
    log: str = Field(min_length=1, description="what looks like the message and must not match")
    reason: str = Field(min_length=1, description="why it must not match")


class Rule(BaseModel):
    """One file of rules/, its keys in the order they stand there."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="the file's name without .toml")
    title: str = Field(min_length=1, description="what happened, said to people; no secrets, no names")
    credential: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$",
        description="the family of credentials; a log is reported once for each family",
    )
    verdict: Verdict = Field(
        description="what the text itself proves: expired, revoked, rejected (refused, and the text cannot "
        "tell expired from wrong), missing, misconfigured, or look-alike (nothing to renew)"
    )
    confidence: Confidence = Field(description="certain: act; likely: act and ask to confirm; hint: record")
    status: Literal["stable", "experimental"] = Field(description="stable or experimental")
    connection_types: list[str] = Field(
        default_factory=list, description="types of connections whose credential it can be; [] when any"
    )
    explanation: str = Field(
        default="", description="what it is instead and what to do; a look-alike must say so"
    )
    advice: str = Field(
        default="", description="id of a recipe that this message asks for whatever the connection is"
    )
    pattern: str = Field(
        min_length=1,
        max_length=_PATTERN_MAX,
        description="regular expression on one line without time stamp and colours, case ignored; "
        "every match holds a word of 4 letters or more; named groups are captures",
    )
    unless: list[str] = Field(default_factory=list, description="patterns that veto on the same line")
    near: list[str] = Field(
        default_factory=list, description="patterns that must all match within so many lines around"
    )
    not_near: list[str] = Field(
        default_factory=list, description="patterns that must not match within so many lines around"
    )
    followed_by: list[str] = Field(
        default_factory=list,
        description="patterns that must match later lines, in this order, within so many lines",
    )
    within: int = Field(
        default=10, ge=1, le=50, description="how many lines before and after the conditions look at"
    )
    time: Literal["", "expired", "early", "drift"] = Field(
        default="",
        description="what the message's dates must prove: expired (not_after is past), early (not_before is "
        "to come), drift (one of them is within five minutes)",
    )
    yields_to: list[str] = Field(
        default_factory=list, description="ids of more exact rules, which win when both match a log"
    )
    false_positives: list[str] = Field(
        default_factory=list, description="when the text can appear though no credential is at fault"
    )
    references: list[str] = Field(min_length=1, description="where the tool's maker documents the message")
    examples: list[Example] = Field(min_length=1, description="text that the rule must match, exactly once")
    counter_examples: list[CounterExample] = Field(
        min_length=1, description="text that looks like it and must not match"
    )

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
