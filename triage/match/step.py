"""What the engine decides about one rule on one line, for who asks why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# A key of the rule that a line does not meet, or that a pattern took too long.
Refusal = Literal["pattern", "unless", "near", "not_near", "followed_by", "time", "timeout"]
Decision = (
    Refusal
    | Literal[
        "quoted",  # the line only quotes a message: what matches it does not count
        "matched",
        "provisional",  # the message, or a line right after it, announces another attempt
        "overcome",  # a later line tells that the attempt succeeded
        "yields",  # to another rule that matches the same log
        "weaker",  # than another match of the same family
    ]
)


@dataclass(frozen=True)
class Step:
    """One decision. Its text comes from the log and is not masked."""

    line: int
    text: str
    rule: str  # empty where a line is only a quote, whatever the rule
    decision: Decision
    detail: str = ""  # the pattern that refused, the rule that won, or the number of the line that overcame
