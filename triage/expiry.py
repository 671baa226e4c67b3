"""When a connection's credential ends, and how that is known. Azure DevOps itself never tells. Pure."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from triage.azdo.graph import Application
    from triage.domain import Connection

# What is kept of these does not end: a token is made for each run, or renewed by the service itself.
_WITHOUT_SECRET = {
    "workloadidentityfederation": "workload identity federation",
    "managedserviceidentity": "a managed identity",
    "installationtoken": "an installed GitHub App",
    "oauth": "OAuth, whose tokens are renewed by themselves",
}
_AUTOMATIC_MONTHS, _EARLIER_AUTOMATIC_MONTHS = 3, 24
_SLACK = timedelta(hours=1)  # between a secret's start and its being entered, by two clocks
_DESCRIPTION_MAX = 2000


class Source(StrEnum):
    """How the end is known, best first."""

    SETTINGS = "triage's settings"
    ENTRA = "Entra"
    DESCRIPTION = "description"
    AUTOMATIC = "last rotation"
    NOTHING = "no secret"
    UNKNOWN = "unknown"

    @property
    def rank(self) -> int:
        """0 for the best; a change to a higher one is no news of the credential."""
        return list(Source).index(self)


@dataclass(frozen=True)
class End:
    """When a credential ends."""

    at: datetime | None  # None: never, or nobody knows
    source: Source
    reason: str  # one sentence, for people; names the connection's text nowhere

    def days_left(self, now: datetime) -> int | None:
        """Return how many days are left, 0 on the last one; None when no end is known."""
        return (self.at.date() - now.astimezone(UTC).date()).days if self.at else None


def of(
    connection: Connection, application: Application | None = None, worked_at: datetime | None = None
) -> End:
    """Return the best that is known; `worked_at` is when it was last used by a run that succeeded."""
    if how := _WITHOUT_SECRET.get(connection.scheme):
        return End(None, Source.NOTHING, f"It signs in with {how}: no secret that ends is kept.")
    return (
        _by_entra(connection, application)
        or _by_description(connection)
        or _by_rotation(connection, worked_at)
        or End(None, Source.UNKNOWN, _unknown(connection))
    )


def due(days_left: int | None, warn_days: Sequence[int]) -> int | None:
    """Return the threshold that has been reached: the lowest; None when none has, or it is too late."""
    if days_left is None or days_left < 0:
        return None
    return min((days for days in warn_days if days_left <= days), default=None)


def has_moved(before: End, after: End) -> bool:
    """Return True when the credential was renewed, by what is known of its end.

    To know less than before (Entra no longer answers) is not to know that it was renewed.
    """
    if after.source is Source.NOTHING:
        return True
    if before.at is None or after.at is None or after.source.rank > before.source.rank:
        return False
    return after.at.date() > before.at.date()


def changed_at(connection: Connection) -> datetime | None:
    """Return since when the connection is as it is."""
    return connection.modified_at or connection.created_at


def _by_entra(connection: Connection, application: Application | None) -> End | None:
    if application is None:
        return None
    kind = "key" if connection.authentication == "spncertificate" else "password"
    name = "certificate" if kind == "key" else "secret"
    of_kind = [each for each in application.secrets if each.kind == kind]
    if not of_kind:
        return End(None, Source.UNKNOWN, f"Its application has no {name} in Entra any more: it cannot work.")
    # A secret made after the connection was last changed is not the one that it holds.
    changed = changed_at(connection)
    held = [
        each
        for each in of_kind
        if changed is None or each.starts_at is None or each.starts_at <= changed + _SLACK
    ]
    newest = max(held or of_kind, key=lambda each: each.ends_at)
    if not held:
        doubt = f" at best: every {name} there is younger than the connection's last change"
    elif len(held) > 1:
        doubt = f" at best: the connection does not say which of {len(held)} {name}s it holds"
    elif len(held) < len(of_kind):
        doubt = f", though there is a newer {name}, made after the connection was last changed"
    else:
        doubt = ""
    return End(newest.ends_at, Source.ENTRA, f"Its application's {name} ends then, as Entra says{doubt}.")


def _by_description(connection: Connection) -> End | None:
    found = sorted(dates(connection.description))
    changed = changed_at(connection)
    # Of several, those before the last change tell of what has been renewed since.
    ahead = [day for day in found if changed is None or day >= changed.date()]
    if not ahead:
        return None
    at = datetime(ahead[0].year, ahead[0].month, ahead[0].day, tzinfo=UTC)
    return End(at, Source.DESCRIPTION, "Its description says so.")


def _by_rotation(connection: Connection, worked_at: datetime | None) -> End | None:
    changed = changed_at(connection)
    automatic = connection.creation_mode == "automatic" and connection.authentication == "spnkey"
    if not automatic or changed is None:
        return None
    at = _after(changed, _AUTOMATIC_MONTHS)
    if worked_at is None or worked_at <= at:
        reason = f"Azure DevOps makes such a secret for three months; last changed on {changed:%Y-%m-%d}."
        return End(at, Source.AUTOMATIC, reason)
    at = _after(changed, _EARLIER_AUTOMATIC_MONTHS)
    if worked_at > at:
        return None
    reason = (
        f"It has outlived the three months of today, so it is one of the earlier ones, made for two years; "
        f"last changed on {changed:%Y-%m-%d}."
    )
    return End(at, Source.AUTOMATIC, reason)


def _unknown(connection: Connection) -> str:
    told = any(dates(connection.description))
    if told:
        return "The date in its description is from before its last change, and nobody else tells."
    return "Nobody tells; write it into the connection's description: expires 2027-01-31."


def _after(moment: datetime, months: int) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan|january|januar",
            "feb|february|februar",
            "mar|march|märz|mär",
            "apr|april",
            "may|mai",
            "jun|june|juni",
            "jul|july|juli",
            "aug|august",
            "sep|sept|september",
            "oct|october|okt|oktober",
            "nov|november",
            "dec|december|dez|dezember",
        ),
        1,
    )
    for name in names.split("|")
}
_WORD = f"(?P<word>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})"
_YEAR = r"(?P<year>20\d\d)"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"{_YEAR}[-/.](?P<month>\d\d?)[-/.](?P<day>\d\d?)(?!\d)",
        rf"(?P<day>\d\d?)\.\s?(?P<month>\d\d?)\.\s?{_YEAR}(?!\d)",
        rf"(?P<first>\d\d?)(?P<mark>[/-])(?P<second>\d\d?)(?P=mark){_YEAR}(?!\d)",
        rf"(?P<day>\d\d?)(?:st|nd|rd|th)?[\s.-]{{1,2}}(?:of )?{_WORD}\.?[\s,-]{{1,2}}{_YEAR}(?!\d)",
        rf"{_WORD}\.?\s(?P<day>\d\d?)(?:st|nd|rd|th)?,?\s{_YEAR}(?!\d)",
        rf"{_WORD}\.?[\s-]{_YEAR}(?!\d)",
        rf"(?P<month>\d\d?)/{_YEAR}(?!\d)",
        rf"{_YEAR}-(?P<month>\d\d)(?!\d)",
    )
)
# A date says when something ends only where a word before it does: "created 2025-01-31" does not.
_ENDS = re.compile(
    r"\b(?:expir\w*|valid(?: until| till| to| thru| through)?|until|till|ends?|good through|"
    r"(?:renew|rotat\w+|replace)(?:d|al)? (?:by|before|until)|due|exp|eol|"
    r"gültig bis|bis|läuft (?:am )?|ablauf\w*|abgelaufen|erneuern (?:bis|vor))"
    r"(?: (?:on|at|by|in|date|day|am|is|the|datum))*[\s.:=(\[*_'\"-]{0,6}(?:the )?(?=[a-zä\d])",
    re.IGNORECASE,
)


def dates(text: str) -> Iterator[date]:
    """Yield the days on which something ends, by what a person wrote.

    A month alone means its first day, and a day and month that can be read both ways the earlier one: a
    warning that comes early does no harm.
    """
    text = re.sub(r"\s+", " ", text[:_DESCRIPTION_MAX]).strip()
    alone = _date_at(text, 0)
    if alone is not None and alone[1] == len(text):
        yield alone[0]
        return
    for word in _ENDS.finditer(text):
        found = _date_at(text, word.end())
        if found is not None:
            yield found[0]


def _date_at(text: str, start: int) -> tuple[date, int] | None:
    for form in _FORMS:
        found = form.match(text, start)
        read = _read(found.groupdict()) if found else None
        if found and read:
            return read, found.end()
    return None


def _read(parts: dict[str, str]) -> date | None:
    year = int(parts["year"])
    if "first" in parts:
        first, second = int(parts["first"]), int(parts["second"])
        both = [_day(year, first, second), _day(year, second, first)]
        return min((each for each in both if each), default=None)
    month = _MONTHS[parts["word"].lower()] if "word" in parts else int(parts["month"])
    return _day(year, month, int(parts.get("day") or 1))


def _day(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
