"""Played: which api-version a request may ask for, and how the service refuses the others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from triage.sandbox.answers import Refusal
from triage.sandbox.locations import NEWEST, RELEASED

if TYPE_CHECKING:
    from triage.sandbox.locations import Location

_VERSION = re.compile(r"(\d{1,2}\.\d)(-preview(?:\.(\d{1,3}))?)?", re.IGNORECASE)
_IN_ACCEPT = re.compile(r";\s*api-version=([^;,\s]*)", re.IGNORECASE)


def check_version(location: Location, method: str, asked: str | None, accept: str) -> None:
    """Refuse a version that the service does not have; the query wins over the Accept header."""
    in_accept = _IN_ACCEPT.search(accept)
    given = asked if asked is not None else in_accept[1] if in_accept else None
    if given is None:
        _without(location, method)
        return
    found = _VERSION.fullmatch(given)
    if found is None:
        raise Refusal(400, f"The api-version {given!r} cannot be read.", "VssVersionNotSpecifiedException")
    if float(found[1]) > float(NEWEST):
        raise Refusal(
            400,
            f"The requested REST API version of {found[1]} is out of range for this server. The latest REST API "
            f"version this server supports is {NEWEST}.",
            "VssVersionOutOfRangeException",
        )
    if not found[2] and (location.preview_only or float(found[1]) > float(RELEASED)):
        raise _preview(given)
    if found[3] and int(found[3]) > location.resource_version:
        raise Refusal(
            400,
            f'The requested resource version "{given}" is newer than {location.resource_version}, the newest of '
            f"{location.area}/{location.resource}.",
            "VssVersionOutOfRangeException",
        )


def _without(location: Location, method: str) -> None:
    if method not in {"GET", "OPTIONS"}:
        raise Refusal(
            400,
            f'No api-version was supplied for the "{method}" request. The version must be supplied either as part '
            'of the Accept header (e.g. "application/json; api-version=1.0") or as a query parameter (e.g. '
            '"?api-version=1.0").',
            "VssVersionNotSpecifiedException",
        )
    if location.preview_only:
        raise _preview(RELEASED)


def _preview(given: str) -> Refusal:
    return Refusal(
        400,
        f'The requested version "{given}" of the resource is under preview. The -preview flag must be supplied in '
        f'the api-version for such requests. For example: "{given}-preview"',
        "VssInvalidPreviewVersionException",
    )
