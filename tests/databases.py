"""Databases for tests: both kinds, each test its own, migrated or empty."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from tests import postgres
from triage import db

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

KINDS = ("sqlite", "postgresql")


class Databases:
    """Makes databases as copies of one that is migrated once; starts a server when one is needed."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self._folder = folder
        self._durable = durable

    @contextmanager
    def new(self, kind: str, folder: Path, *, migrated: bool = True) -> Iterator[str]:
        """Return the URL of a database for as long as the context lasts."""
        if kind == "sqlite":
            file = folder / "triage.db"
            if migrated:
                shutil.copy(self._sqlite, file)
            yield f"sqlite:///{file}"
            return
        name = self.server.create(self._postgresql if migrated else "template0")
        yield self.server.url(name)
        self.server.drop(name)

    @property
    def programs(self) -> Path:
        """Where PostgreSQL is. Skips the test when it is missing, and fails it in CI."""
        found = postgres.programs()
        if found is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(postgres.MISSING)
        return found

    @cached_property
    def server(self) -> postgres.Server:
        """The server of this process's tests."""
        return postgres.Server(self.programs, durable=self._durable)

    @cached_property
    def _sqlite(self) -> Path:
        file = self._folder / "migrated.db"
        _migrate(f"sqlite:///{file}")
        return file

    @cached_property
    def _postgresql(self) -> str:
        name = self.server.create()
        _migrate(self.server.url(name))
        return name

    def close(self) -> None:
        if "server" in vars(self):
            self.server.close()


def rows(engine: Engine) -> str:
    """Return every row of every table, as text."""
    tables = sa.inspect(engine).get_table_names()
    with engine.connect() as connection:
        return "\n".join(
            str(row) for name in tables for row in connection.execute(sa.text(f"SELECT * FROM {name}"))
        )


def _migrate(url: str) -> None:
    engine = db.open_engine(url)
    db.migrate(engine)
    engine.dispose()
