from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from triage.match import when

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T12:00:00Z",
        "2026-11-21T12:00:00.0000000Z",
        "2026-11-21T12%3A00%3A00Z",
        "2026-11-21 12:00:00Z",
        "2026-11-21 12:00:00 +0000",
        "2026-11-21T13:00:00+01:00",
        "11/21/2026 12:00:00 PM",
        "Sat, 21 Nov 2026 12:00:00 GMT",
        "Sat Nov 21 12:00:00 UTC 2026",
        "Nov 21 12:00:00 2026 GMT",
        "20261121T120000Z",
    ],
)
def test_a_moment_is_read_from_the_forms_that_tools_print(text: str) -> None:
    assert when.moment(text) == NOON


@pytest.mark.parametrize("text", ["", "***", "soon", "2026-13-45", "21"])
def test_what_states_no_moment_is_none(text: str) -> None:
    assert when.moment(text) is None


def test_expiry_is_proven_by_the_text_s_own_present_before_the_line_s() -> None:
    stated = {"not_after": "2026-11-21T11:00:00Z", "current": "2026-11-21T10:00:00Z"}
    assert not when.holds("expired", stated, NOON)
    assert when.holds("expired", {"not_after": "2026-11-21T11:00:00Z"}, NOON)


def test_nothing_is_proven_without_a_present() -> None:
    assert not when.holds("expired", {"not_after": "2020-01-01T00:00:00Z"}, None)
    assert not when.holds("early", {"not_before": "2099-01-01T00:00:00Z"}, None)


def test_a_start_that_lies_ahead_is_early() -> None:
    assert when.holds("early", {"not_before": "2026-11-21T12:10:00Z"}, NOON)
    assert not when.holds("early", {"not_before": "2026-11-21T11:10:00Z"}, NOON)


@pytest.mark.parametrize(("seconds", "drift"), [(-45, True), (45, True), (301, False), (-301, False)])
def test_a_few_minutes_are_drift(seconds: int, drift: bool) -> None:  # noqa: FBT001
    at = (NOON + timedelta(seconds=seconds)).astimezone(timezone(timedelta(hours=2)))
    assert when.holds("drift", {"not_after": at.isoformat()}, NOON) is drift
