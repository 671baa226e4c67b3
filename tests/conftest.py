"""Nothing of the machine's own settings reaches a test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from triage.match import prescan

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    for name in os.environ:
        if name.startswith("TRIAGE_") and name != "TRIAGE_BLESS":
            monkeypatch.delenv(name)
    monkeypatch.setenv("TRIAGE_CONFIG", os.devnull)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture(params=["patterns", "words"])
def each_scanner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test run with Hyperscan, and as on a platform that has no wheel of it."""
    assert prescan.version(), "hyperscan is not installed; it is in requirements-dev.txt"
    if request.param == "words":
        monkeypatch.setattr(prescan, "hs", None)
