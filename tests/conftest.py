"""Nothing of the machine's own settings reaches a test."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("TRIAGE_") and name != "TRIAGE_BLESS":
            monkeypatch.delenv(name)
    monkeypatch.setenv("TRIAGE_CONFIG", os.devnull)
