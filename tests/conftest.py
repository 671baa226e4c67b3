"""Nothing of the machine's own settings reaches a test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.databases import KINDS, Databases
from triage import db
from triage.match import prescan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine


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


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    made = Databases(tmp_path_factory.mktemp("databases"))
    yield made
    made.close()


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, databases: Databases, tmp_path: Path) -> Iterator[str]:
    """Let the test run on each kind of database: a new one, migrated."""
    with databases.new(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = db.open_engine(database_url)
    yield made
    made.dispose()


@pytest.fixture(params=KINDS)
def empty_database_url(request: pytest.FixtureRequest, databases: Databases, tmp_path: Path) -> Iterator[str]:
    """Let the test run on each kind of database: a new one, without any table."""
    with databases.new(request.param, tmp_path, migrated=False) as url:
        yield url


@pytest.fixture(params=["patterns", "words"])
def each_scanner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test run with Hyperscan, and as on a platform that has no wheel of it."""
    assert prescan.version(), "hyperscan is not installed; it is in requirements-dev.txt"
    if request.param == "words":
        monkeypatch.setattr(prescan, "hs", None)
