"""The database: its schema is what the tables say, and a wrong one is explained."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlmodel import Session, SQLModel, select

from triage import db
from triage.db import Delivery, Incident
from triage.errors import UsageError


def test_the_migrations_make_exactly_the_tables(tmp_path: Path) -> None:
    engine = db.open_engine(f"sqlite:///{tmp_path}/triage.db")
    db.migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
    engine.dispose()


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    engine = db.open_engine(f"sqlite:///{tmp_path}/triage.db")
    db.migrate(engine)
    db.migrate(engine)
    assert "job" in inspect(engine).get_table_names()
    engine.dispose()


def test_the_migrations_can_be_undone(tmp_path: Path) -> None:
    engine = db.open_engine(f"sqlite:///{tmp_path}/triage.db")
    db.migrate(engine)
    config = Config()
    config.set_main_option("script_location", str(Path(db.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()


def test_an_incident_of_the_first_version_keeps_its_steps(tmp_path: Path) -> None:
    engine = db.open_engine(f"sqlite:///{tmp_path}/triage.db")
    config = Config()
    config.set_main_option("script_location", str(Path(db.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        names = [each["name"] for each in inspect(connection).get_columns("incident")]
        filled = dict.fromkeys(names, "x") | {
            "id": 1,
            "steps": '["Ask *Ada*."]',
            "work_item": 9,
            "opened_at": "2026-11-21 03:00:00",
            "last_seen_at": "2026-11-21 03:00:00",
        }
        columns, marks = ", ".join(names), ", ".join(f":{name}" for name in names)
        connection.execute(text(f"INSERT INTO incident ({columns}) VALUES ({marks})"), filled)
    db.migrate(engine)
    with Session(engine) as session:
        (row,) = session.exec(select(Incident)).all()
        assert json.loads(row.renewal) == {"steps": ["Ask *Ada*."]}
    engine.dispose()


def test_times_come_back_in_utc(tmp_path: Path) -> None:
    engine = db.open_engine(f"sqlite:///{tmp_path}/triage.db")
    db.migrate(engine)
    summer = datetime(2026, 7, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    with Session(engine) as session, session.begin():
        session.add(Delivery(source="hook", outcome="ignored", received_at=summer))
    with Session(engine) as session:
        assert session.exec(select(Delivery.received_at)).one() == datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    engine.dispose()


@pytest.mark.parametrize("name", ["missing/triage.db", "."])
def test_a_database_that_cannot_be_written_is_explained(tmp_path: Path, name: str) -> None:
    engine = db.open_engine(f"sqlite:///{tmp_path}/{name}")
    with pytest.raises(UsageError, match=r"cannot be opened for writing.*TRIAGE_DATABASE__URL"):
        db.migrate(engine)
    engine.dispose()


def test_a_file_that_is_no_database_is_explained(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("dear diary, " * 100)
    engine = db.open_engine(f"sqlite:///{tmp_path}/notes.txt")
    with pytest.raises(UsageError, match="cannot be opened for writing"):
        db.migrate(engine)
    engine.dispose()


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(UsageError, match=r"database.url: 'mysql' is not supported"):
        db.open_engine("mysql://localhost/triage")
