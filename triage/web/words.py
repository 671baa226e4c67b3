"""How pages say when something is, and take what people look for."""

from __future__ import annotations

from datetime import datetime

from markupsafe import Markup, escape

from triage import db

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def ago(moment: str) -> str:
    """Return how long ago a moment was, in the largest fitting unit."""
    seconds = int((db.now() - datetime.fromisoformat(moment)).total_seconds())
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"


def ahead(days: int) -> str:
    """Return how far off a day is, today being 0."""
    if days == 0:
        return "today"
    if days < 0:
        return "yesterday" if days == -1 else f"{-days} days ago"
    return "tomorrow" if days == 1 else f"in {days} days"


def address(text: str) -> Markup:
    """Return an e-mail address that breaks after its @ where it has to break, not in the middle of a word."""
    return Markup("@<wbr>").join(map(escape, text.split("@")))


def sought(given: str) -> str:
    """Return what somebody looks for, without what PostgreSQL takes in no text."""
    return given.replace("\0", "").strip()
