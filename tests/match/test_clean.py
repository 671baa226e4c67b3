import pytest

from triage.match import clean


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        (b"2026-11-21T03:00:00.1234567Z Login failed", "Login failed"),
        (b"\xef\xbb\xbf2026-11-21T03:00:00.1234567Z Login failed", "Login failed"),
        (b"\x1b[31mLogin\x1b[0m failed", "Login failed"),
        (b"^[[31mLogin^[[0m failed", "Login failed"),
        (b"\x1b]8;;https://a.example\x07Login\x1b]8;;\x07 failed", "Login failed"),
        (b"Login failed\r", "Login failed"),
        (b" 10%\r 90%\rLogin failed\r", " 10%\n 90%\nLogin failed"),
        (b"Login\x85\x01 failed", "Login\ufffd\ufffd failed"),
        (b"Log\x00in\xef\xbb\xbf failed", "Login failed"),
        (b"Login \xff failed", "Login \ufffd failed"),
        ("Anmeldung fehlgeschlagen: Schlüssel".encode(), "Anmeldung fehlgeschlagen: Schlüssel"),
    ],
)
def test_a_line_reads_as_a_terminal_would_leave_it(raw: bytes, seen: str) -> None:
    assert clean.text(clean.wash(raw)) == seen
