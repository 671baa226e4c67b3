"""How long triage waits for Azure DevOps, and how much it takes from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The bounds of one request; tests shorten them."""

    connect_seconds: float = 10.0  # for each address of the host
    silence_seconds: float = 60.0  # without a single byte
    request_seconds: float = 60.0  # a whole answer, however its bytes trickle in
    log_seconds: float = 300.0  # a whole log, with the time that its reader takes
    answer_bytes: int = 64 * 1024 * 1024  # decoded; a log may be larger
    patience_seconds: float = 60.0  # a longer wait gives the worker back
    throttled_seconds: float = 30.0  # a 429 that does not say how long
    delayed_seconds_max: float = 30.0  # Azure DevOps delays a request by no more
    low_seconds: float = 5.0  # the pause after each answer while little is left of the budget
    again_seconds: float = 0.5  # a 404 is believed when it is said twice
    outage_seconds: float = 5.0  # the first pause of an outage; each further one is twice as long
    outage_seconds_max: float = 300.0
    outage_failures: int = 3  # so many in a row are an outage
