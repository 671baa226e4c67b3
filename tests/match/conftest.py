from __future__ import annotations

import pytest

from triage.match import prescan


@pytest.fixture(params=["patterns", "words"])
def each_scanner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test run with Hyperscan, and as on a platform that has no wheel of it."""
    assert prescan.version(), "hyperscan is not installed; it is in requirements-dev.txt"
    if request.param == "words":
        monkeypatch.setattr(prescan, "hs", None)
