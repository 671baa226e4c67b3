"""What came of an act."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """Where the act can be seen, and what it was in a few words."""

    remote_id: str
    url: str
    detail: str
