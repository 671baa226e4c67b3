"""Compare the dates that a message states with the moment at which it was printed."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

_DRIFT = timedelta(minutes=5)  # clocks of two machines may differ by so much without being wrong
_FORMATS = (
    "%Y-%m-%d %H:%M:%S %Z",
    "%Y-%m-%d %H:%M:%S %z",
    "%Y/%m/%d %H:%M:%S",
    "%m/%d/%Y %I:%M:%S %p",  # .NET on an English machine
    "%b %d %H:%M:%S %Y %Z",  # OpenSSL
    "%a %b %d %H:%M:%S %Z %Y",  # Java
    "%a %b %d %H:%M:%S %Y",
)


def moment(text: str) -> datetime | None:
    """Return the moment that a text states, in UTC where it names no zone; None when it states none."""
    text = " ".join(unquote(text).split())
    with suppress(ValueError):
        return _aware(datetime.fromisoformat(text))
    for form in _FORMATS:
        with suppress(ValueError):
            return _aware(datetime.strptime(text, form))  # noqa: DTZ007 - made aware at once
    with suppress(ValueError, IndexError):  # RFC 1123
        return _aware(parsedate_to_datetime(text))
    return None


def holds(condition: str, captures: Mapping[str, str | None], printed: datetime | None) -> bool:
    """Tell whether the message's own dates prove the condition: "expired", "early" or "drift".

    The present is the capture `current`, or else when the line was printed; without a present
    nothing is proven.
    """
    stated = {name: moment(text) for name, text in captures.items() if text}
    present = stated.get("current") or printed
    end, start = stated.get("not_after"), stated.get("not_before")
    if present is None:
        return False
    if condition == "expired":
        return end is not None and end < present
    if condition == "early":
        return start is not None and start > present
    return any(abs(limit - present) <= _DRIFT for limit in (end, start) if limit)


def _aware(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
