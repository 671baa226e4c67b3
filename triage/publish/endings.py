"""What triage says of a credential that still works, but not for long: titles, work items, comments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triage.expiry import Source
from triage.publish.messages import renewal
from triage.safe import visible, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triage.domain import Owner, Recipe
    from triage.expiry import End
    from triage.inventory import Held, Own

_TITLE_MAX = 255
_PIPELINES = 10

_ABOUT = """\
The credential of the service connection **[{name}]({url})** ({kind}) in {where} {ends} on **{day}**, \
{left}. {reason}"""

_OWN = """\
triage itself signs in to {where} with a credential that ends on **{day}**, {left}. {reason} \
Afterwards {then}.

1. Make a new one: {what}, that deploy/README.md lists.
2. Put it where triage's settings keep the section `{setting}`, set `{setting}.expires_on` to its last day, \
and restart triage.
3. `triage doctor` says whether it works.

A managed identity never has to be renewed (`{setting}.auth`)."""

_TO_AZURE_DEVOPS = {
    "where": "Azure DevOps",
    "then": "nobody is told of failed runs",
    "what": "a personal access token with the scopes, or a secret of the application with the rights",
}
_TO_QUEUE = {
    "where": "its queue of Azure Service Bus",
    "then": "no event is taken from there, and failed runs are found by the sweep alone, minutes later",
    "what": "a secret or a certificate of the application with the rights",
}

_CLOSING = """\
triage says here when less time is left{again}, and closes this item once the end has moved. \
[What triage knows of it]({page}) is kept up to date. \
To hear no more of it, close the item."""

_DESCRIBED = "Write the new day into the connection's description, too: that is where triage knows it from."

_REMINDER = "**{left} left.** The credential of **{name}** ends on **{day}**."

_RENEWED = "**The end has moved.** The credential of **{name}** {until}. {reason} triage closes this item."

_GONE = """\
triage does not see **{name}** any more: it was deleted, or it is no longer shown to triage. \
Nothing can be said of its end, so triage closes this item."""

_NO_LONGER_OWN = "triage's settings have no `{setting}` any more, so triage closes this item."


def title(name: str, end: End) -> str:
    """Return the title of the work item of a connection."""
    day = f" before {_day(end)}"
    return f"[triage] Renew the credential of {visible(name)}"[: _TITLE_MAX - len(day)] + day


def text(held: Held, owner: Owner, recipe: Recipe, days: int, reminders: Sequence[int], *, page: str) -> str:
    """Return the work item of a connection that ends soon, Markdown; `page` is triage's own of it."""
    connection = held.connection
    about = _ABOUT.format(
        name=words(connection.name),
        url=connection.url,
        kind=words(f"{connection.type}, {connection.scheme}"),
        where=", ".join(f"**{words(place.project)}**" for place in held.places),
        ends="probably ends" if held.end.source is Source.AUTOMATIC else "ends",
        day=_day(held.end),
        left=_left(days),
        reason=held.end.reason,
    )
    parts = [
        about,
        f"**Whose it is:** {words(owner.reason)}",
        _users(held),
        "## Renew it",
        f"Everything works until {_day(held.end)}. Where the steps speak of what fails, they mean later.",
        renewal(recipe),
        _DESCRIBED if held.end.source is Source.DESCRIPTION else "",
        _closing(reminders, page),
    ]
    return "\n\n".join(part for part in parts if part)


def own(credential: Own, days: int, reminders: Sequence[int], *, page: str) -> tuple[str, str]:
    """Return title and text of the work item of triage's own credential, Markdown."""
    end = credential.end
    to = _TO_QUEUE if credential.setting == "service_bus.credential" else _TO_AZURE_DEVOPS
    said = _OWN.format(day=_day(end), left=_left(days), reason=end.reason, setting=credential.setting, **to)
    return title("triage itself", end), f"{said}\n\n{_closing(reminders, page)}"


def reminder(name: str, end: End, days: int) -> str:
    """Return the comment when less time is left, Markdown."""
    left = "Less than a day" if days == 0 else "1 day" if days == 1 else f"{days} days"
    return _REMINDER.format(left=left, name=words(name), day=_day(end))


def renewed(name: str, end: End) -> str:
    """Return the comment on an item whose credential ends later by now, Markdown."""
    until = f"now ends on **{_day(end)}**" if end.at else "does not end any more"
    return _RENEWED.format(name=words(name), until=until, reason=end.reason)


def gone(name: str) -> str:
    """Return the comment on an item whose connection is not there any more, Markdown."""
    return _GONE.format(name=words(name))


def no_longer_own(setting: str) -> str:
    """Return the comment on an item whose credential triage itself signs in with no more, Markdown."""
    return _NO_LONGER_OWN.format(setting=setting)


def _users(held: Held) -> str:
    if held.uses is None:
        return ""
    if held.is_unused:
        return "**Nobody uses it**, as far as Azure DevOps remembers: delete it rather than renew it."
    names = held.pipelines
    more = f" and {len(names) - _PIPELINES} more" if len(names) > _PIPELINES else ""
    last = f", the last time on {held.last_used:%Y-%m-%d}" if held.last_used else ""
    return f"**Used by** {', '.join(words(name) for name in names[:_PIPELINES])}{more}{last}."


def _closing(reminders: Sequence[int], page: str) -> str:
    counted = ", ".join(str(days) for days in sorted(reminders, reverse=True))
    return _CLOSING.format(again=f" ({counted} days)" if counted else "", page=page)


def _day(end: End) -> str:
    return f"{end.at:%Y-%m-%d}" if end.at else "no known day"


def _left(days: int) -> str:
    return "today" if days == 0 else "tomorrow" if days == 1 else f"in {days} days"
