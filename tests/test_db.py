"""The database: its schema is what the tables say, and a wrong one is explained."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import event, inspect, text
from sqlmodel import Session, SQLModel, select

from tests.promises.forked import fork
from triage import db
from triage.db import Delivery, Incident
from triage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

ROOT = Path(__file__).parent.parent


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Engine]:
    engine = db.open_engine(empty_database_url)
    yield engine
    engine.dispose()


def config(connection: Connection) -> Config:
    made = Config()
    made.set_main_option("script_location", str(Path(db.__file__).parent / "migrations"))
    made.attributes["connection"] = connection
    return made


def test_the_migrations_make_exactly_the_tables(empty: Engine) -> None:
    db.migrate(empty)
    with empty.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_migrating_twice_changes_nothing(empty: Engine) -> None:
    db.migrate(empty)
    db.migrate(empty)
    assert "job" in inspect(empty).get_table_names()


def test_processes_that_start_at_once_migrate_once(empty_database_url: str) -> None:
    program = (
        "import sys, time; from triage import db; engine = db.open_engine(sys.argv[1]); "
        "print('ready', flush=True); sys.stdin.readline(); db.migrate(engine)"
    )
    command = [sys.executable, "-c", program, empty_database_url]
    starting = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        )
        for _ in range(4)
    ]
    for each in starting:
        assert each.stdout is not None
        assert each.stdout.readline() == b"ready\n"
    for each in starting:
        assert each.stdin is not None
        each.stdin.write(b"go\n")
        each.stdin.flush()
    ended = [(each.communicate(timeout=60)[1].decode(), each.returncode) for each in starting]
    assert ended == [("", 0)] * len(starting)
    engine = db.open_engine(empty_database_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1
    engine.dispose()


def test_what_is_killed_half_way_is_migrated_by_the_next(empty_database_url: str, empty: Engine) -> None:
    """Killed before a statement: each time a later one, until a migration gets to its end."""

    def killed(_: object, before: int) -> None:
        engine, seen = db.open_engine(empty_database_url), 0

        def count(*_: object) -> None:
            nonlocal seen
            seen += 1
            if seen == before:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(engine, "before_cursor_execute", count)
        db.migrate(engine)

    deaths = 0
    for before in range(1, 1000, 13):
        if not fork(killed, before).end().was_killed:
            break
        deaths += 1
        assert set(inspect(empty).get_table_names()) <= {"alembic_version"}, "all of it or nothing"
    assert deaths >= 5
    with empty.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []


def test_every_migration_can_be_undone_and_done_again(empty: Engine) -> None:
    db.migrate(empty)
    with empty.begin() as connection:
        command.downgrade(config(connection), "base")
    assert inspect(empty).get_table_names() == ["alembic_version"]
    db.migrate(empty)
    with empty.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []


def test_an_incident_of_the_first_version_keeps_its_steps(empty: Engine) -> None:
    with empty.begin() as connection:
        command.upgrade(config(connection), "0001")
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
    db.migrate(empty)
    with Session(empty) as session:
        (row,) = session.exec(select(Incident)).all()
        assert json.loads(row.renewal) == {"steps": ["Ask *Ada*."]}


def test_times_come_back_in_utc(engine: Engine) -> None:
    summer = datetime(2026, 7, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    with Session(engine) as session, session.begin():
        session.add(Delivery(source="hook", outcome="ignored", received_at=summer))
    with Session(engine) as session:
        kept = session.exec(select(Delivery.received_at)).one()
    assert kept.isoformat() == "2026-07-01T12:00:00+00:00"


def test_the_database_tells_the_time(engine: Engine) -> None:
    with engine.connect() as connection:
        early, late = connection.execute(select(db.present(-90), db.present(0.25))).one()
    assert early.utcoffset() == late.utcoffset() == timedelta(0)
    assert late - early == pytest.approx(timedelta(seconds=90.25), abs=timedelta(milliseconds=2))
    assert abs(early - db.now()) == pytest.approx(timedelta(seconds=90), abs=timedelta(seconds=30))


@pytest.mark.parametrize("name", ["missing/triage.db", "."])
def test_a_database_that_cannot_be_written_is_explained(tmp_path: Path, name: str) -> None:
    engine = db.open_engine(f"sqlite:///{tmp_path}/{name}")
    with pytest.raises(UsageError, match=r"cannot be opened for writing.*TRIAGE_DATABASE__URL"):
        db.migrate(engine)
    engine.dispose()


def test_a_database_of_a_newer_version_is_explained(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UsageError, match=r"revision 9999.*Start the newer triage"):
        db.migrate(engine)


def test_a_file_that_is_no_database_is_explained(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("dear diary, " * 100)
    engine = db.open_engine(f"sqlite:///{tmp_path}/notes.txt")
    with pytest.raises(UsageError, match="cannot be opened for writing"):
        db.migrate(engine)
    engine.dispose()


@pytest.mark.parametrize(
    "url", ["postgresql://triage:hush@127.0.0.1:1/triage", "postgresql://triage:hush@/x?host=/nowhere"]
)
def test_a_server_that_cannot_be_reached_is_explained(url: str) -> None:
    engine = db.open_engine(url)
    with pytest.raises(
        UsageError, match=r"(?s)cannot be used: .*the server runs.*TRIAGE_DATABASE__URL"
    ) as told:
        db.migrate(engine)
    assert "hush" not in str(told.value)
    engine.dispose()


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(UsageError, match=r"database.url: 'mysql' is not supported"):
        db.open_engine("mysql://localhost/triage")
