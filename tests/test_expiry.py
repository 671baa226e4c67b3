"""When a credential ends, by what is known of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests import findings
from triage import expiry
from triage.azdo.graph import Application, Secret
from triage.expiry import End, Source

if TYPE_CHECKING:
    from triage.domain import Connection

CHANGED = datetime(2026, 8, 31, 9, 0, tzinfo=UTC)


def connection(description: str = "", **changes: object) -> Connection:
    made = replace(
        findings.connection(),
        scheme="serviceprincipal",
        description=description,
        data={"creationmode": "Manual"},
        parameters={"authenticationtype": "spnKey"},
        created_at=datetime(2025, 1, 1, tzinfo=UTC),
        modified_at=CHANGED,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


AUTOMATIC = connection(data={"creationmode": "Automatic"})


@pytest.mark.parametrize(
    "text",
    [
        "expires 2027-03-04",
        "Expires on: 2027/03/04 (renew with Jo)",
        "PAT of the build user, expiry 2027-03-04T10:00:00Z",
        "expiry date is 2027-3-4",
        "valid until 4 March 2027",
        "valid to 4th of Mar 2027",
        "Token expires at Mar 4, 2027.",
        "ends **2027-03-04**",
        "renew before March 4th, 2027",
        "rotate by 4-Mar-2027",
        "gültig bis 4.3.2027",
        "Läuft am 04.03.2027 ab",
        "Ablaufdatum: 4. März 2027",
        "2027-03-04",
        "exp=2027-03-04",
        "created 2025-01-01 by Jo; expires 2027-03-04",
    ],
)
def test_a_date_in_a_description_is_read(text: str) -> None:
    assert list(expiry.dates(text)) == [date(2027, 3, 4)]


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("expires 03/04/2027", date(2027, 3, 4)),  # or the 3rd of April
        ("expires 25/12/2027", date(2027, 12, 25)),
        ("expires 12/25/2027", date(2027, 12, 25)),
        ("expires March 2027", date(2027, 3, 1)),
        ("expires 03/2027", date(2027, 3, 1)),
        ("expires 2027-03", date(2027, 3, 1)),
    ],
)
def test_what_can_be_read_in_two_ways_is_the_earlier_day(text: str, day: date) -> None:
    assert list(expiry.dates(text)) == [day]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "created 2025-01-31",
        "Rotated on 2026-08-01 by Jo",
        "expires 2027-13-45",
        "expires soon, see ticket 2027-0304",
        "see https://contoso.example/2027/03/04/keys",
        "the unexpired 2027-03-04",
        "expires" * 100_000,
        "expires on " * 100_000,
        "valid " * 50_000 + "2027-03-04",
    ],
)
def test_a_date_of_something_else_is_none(text: str) -> None:
    assert list(expiry.dates(text)) == []


@pytest.mark.parametrize(
    "scheme", ["workloadidentityfederation", "managedserviceidentity", "installationtoken", "oauth"]
)
def test_what_keeps_no_secret_never_ends(scheme: str) -> None:
    end = expiry.of(connection("expires 2027-03-04", scheme=scheme))
    assert (end.at, end.source) == (None, Source.NOTHING)


def test_an_automatic_secret_lasts_three_months_from_its_last_change() -> None:
    end = expiry.of(AUTOMATIC)
    assert (end.at, end.source) == (datetime(2026, 11, 30, 9, 0, tzinfo=UTC), Source.AUTOMATIC)
    never_changed = replace(AUTOMATIC, modified_at=None)
    assert expiry.of(never_changed).at == datetime(2025, 4, 1, tzinfo=UTC)


def test_a_secret_that_still_works_after_three_months_was_made_for_two_years() -> None:
    assert expiry.of(AUTOMATIC, None, CHANGED + timedelta(days=90)).at == datetime(
        2026, 11, 30, 9, tzinfo=UTC
    )
    assert expiry.of(AUTOMATIC, None, CHANGED + timedelta(days=100)).at == datetime(
        2028, 8, 31, 9, tzinfo=UTC
    )
    assert expiry.of(AUTOMATIC, None, CHANGED + timedelta(days=800)).source is Source.UNKNOWN


def test_a_manual_secret_is_known_by_its_description_alone() -> None:
    assert expiry.of(connection()).source is Source.UNKNOWN
    end = expiry.of(connection("expires 2026-12-24"))
    assert (end.at, end.source) == (datetime(2026, 12, 24, tzinfo=UTC), Source.DESCRIPTION)
    assert expiry.of(replace(AUTOMATIC, description="expires 2026-12-24")).source is Source.DESCRIPTION


def test_a_date_before_the_last_change_tells_of_what_has_been_renewed() -> None:
    old = expiry.of(connection("expires 2026-08-30"))
    assert (old.source, "before its last change" in old.reason) == (Source.UNKNOWN, True)
    assert expiry.of(connection("expires 2026-08-30, now expires 2027-08-30")).at == datetime(
        2027, 8, 30, tzinfo=UTC
    )


def secret(started: int, ends: int, kind: str = "password") -> Secret:
    """Return a secret by days from the connection's last change."""
    return Secret(kind, CHANGED + timedelta(days=started), CHANGED + timedelta(days=ends))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("secrets", "days", "said"),
    [
        ([secret(0, 365)], 365, "as Entra says."),
        ([secret(-300, 65), secret(-1, 364)], 364, "which of 2 secrets it holds"),
        ([secret(-300, 65), secret(30, 395)], 65, "there is a newer secret"),
        ([secret(30, 395)], 395, "younger than the connection's last change"),
        ([secret(0, 50), secret(0, 900, "key")], 50, "as Entra says."),
    ],
)
def test_entra_knows_best(secrets: list[Secret], days: int, said: str) -> None:
    end = expiry.of(connection("expires 2030-01-01"), Application("a", "deploy", tuple(secrets)))
    assert (end.at, end.source) == (CHANGED + timedelta(days=days), Source.ENTRA)
    assert said in end.reason


def test_a_certificate_ends_as_the_application_s_key_does() -> None:
    application = Application("a", "deploy", (secret(0, 50), secret(0, 900, "key")))
    by_certificate = connection(parameters={"authenticationtype": "spnCertificate"})
    assert expiry.of(by_certificate, application).at == CHANGED + timedelta(days=900)


def test_an_application_without_secrets_cannot_work() -> None:
    assert "cannot work" in expiry.of(connection(), Application("a", "deploy", ())).reason


@pytest.mark.parametrize(
    ("left", "due"), [(31, None), (30, 30), (15, 30), (14, 14), (7, 7), (2, 7), (1, 1), (0, 1), (-1, None)]
)
def test_the_lowest_threshold_reached_is_due(left: int, due: int | None) -> None:
    assert expiry.due(left, [30, 14, 7, 1]) == due


def test_to_know_less_is_not_to_know_of_a_renewal() -> None:
    by_entra = End(CHANGED, Source.ENTRA, "")
    later = CHANGED + timedelta(days=90)
    assert expiry.has_moved(by_entra, End(later, Source.ENTRA, ""))
    assert expiry.has_moved(by_entra, End(None, Source.NOTHING, ""))
    assert not expiry.has_moved(by_entra, End(later, Source.AUTOMATIC, ""))
    assert not expiry.has_moved(by_entra, End(None, Source.UNKNOWN, ""))
    assert not expiry.has_moved(by_entra, End(CHANGED, Source.ENTRA, ""))
