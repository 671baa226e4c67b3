"""With a long history a claim and every page find their rows by an index, on both kinds of database."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from fastapi import HTTPException
from sqlmodel import Session, select, update

from tests.bench import history
from tests.storms import stage
from triage import azdo, config, db, diagnosis, jobs, record, watch, worker
from triage import history as remembered
from triage.db import Incident, Job
from triage.domain import RunRef
from triage.intake.deliveries import Keeper
from triage.jobs import State
from triage.sandbox.organisation import Organisation, wire_time
from triage.sandbox.server import serve
from triage.web import measures, pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Engine

RUNS = 100_000
LARGE = ("job", "run", "finding", "delivery", "effect", "incident")


def look(engine: Engine) -> None:
    with Session(engine) as session:
        jobs.put_look(session, "b460b0f8-0000-4000-8000-000000000003", marker="1000")


ASKED: dict[str, Callable[[Engine], Any]] = {
    "claim": lambda engine: jobs.claim(engine, "a"),
    "count the unfinished": jobs.unfinished,
    "put a round": lambda engine: jobs.put_round(engine, jobs.Kind.SWEEP, 1),
    "abandon": lambda engine: jobs.abandon(engine, "a"),
    "forget": lambda engine: remembered.forget(engine, timedelta(days=30)),
    "silence": watch._silence,
    "put": lambda engine: jobs.put(engine, RunRef(history.PROJECT, RUNS + 7), marker="1000"),
    "look": look,
    "incidents": pages.incidents,
    "incidents that are over": pages.over,
    "open incidents": lambda engine: record.open_incidents(engine, 50),
    "measures": lambda engine: list(measures._Measures(engine).collect()),
    "incident": lambda engine: pages.incident(engine, 1),
    "runs": pages.runs,
    "run": lambda engine: pages.run(engine, "Shop", 77),
    "deliveries": pages.deliveries,
    "troubled": pages.troubled,
}


@pytest.fixture
def seen(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """Collect the statements that are executed."""
    statements: list[tuple[str, Any]] = []

    def keep(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", keep)
    yield statements
    sa.event.remove(engine, "before_cursor_execute", keep)


def plan(engine: Engine, statement: str, parameters: Any) -> list[str]:
    if "WHERE" not in statement and re.search(r"ORDER BY \w+\.id DESC\s+LIMIT", statement):
        return []  # reads the table from its end and no further: SQLite calls that a scan
    explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":  # which prefers to read a table whole that is small, as here
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        rows = connection.exec_driver_sql(explain + statement, parameters)
        return [str(row[-1]).strip() for row in rows]


def whole_tables(lines: list[str]) -> list[str]:
    """Return the steps of a plan that read all of a large table."""
    return [
        line
        for line in lines
        for table in LARGE
        if f"Seq Scan on {table}" in line or (f"SCAN {table}" in line and "INDEX" not in line)
    ]


def renewed(organisation: Organisation) -> None:
    """Let every connection be used again, and with success."""
    for project in organisation.projects.values():
        for uses in project.uses.values():
            at = wire_time(db.now() + timedelta(hours=1))
            uses.insert(0, {**uses[0], "result": "succeeded", "startTime": at, "finishTime": at})


def of_large(seen: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [each for each in seen if re.search(rf"(FROM|UPDATE) ({'|'.join(LARGE)})\b", each[0])]


def test_nothing_reads_a_whole_history(engine: Engine, seen: list[tuple[str, Any]]) -> None:
    history.fill(engine, RUNS)
    found: dict[str, list[str]] = {}
    for name, ask in ASKED.items():
        seen.clear()
        ask(engine)
        asked = of_large(seen)
        assert asked, name
        plans = [line for statement, parameters in asked for line in plan(engine, statement, parameters)]
        found[name] = whole_tables(plans)
        if name == "claim":
            assert any("ix_job_unfinished" in line for line in plans), plans
    assert found == {name: [] for name in ASKED}


def test_a_run_is_triaged_told_of_and_closed_without_reading_a_whole_history(
    engine: Engine, seen: list[tuple[str, Any]]
) -> None:
    history.fill(engine, 20_000)
    with Session(engine) as session, session.begin():
        session.exec(update(Job).values(state=State.COMPLETED, finished_at=db.now()))
    seen.clear()
    organisation = Organisation("contoso")
    with serve(organisation, token=stage.TOKEN) as played:
        settings = config.load(
            azure_devops={"url": played.url, "token": stage.TOKEN},
            policy={"settle_seconds": 0, "group_wait_seconds": 0, "group_interval_seconds": 0},
        )
        mate = worker.Worker(settings, engine, diagnosis.knowledge(settings), threading.Event())
        door = azdo.connect(played.url, stage.TOKEN)

        def work() -> None:
            while (job := jobs.claim(engine, mate.id)) is not None:
                mate.handle(door, job)

        for body in stage.fail(organisation, "noisy", 6, 2, 1):
            Keeper(engine).store(body, played.url)
            work()
        renewed(organisation)
        for kind in (jobs.Kind.SWEEP, jobs.Kind.MEND):
            assert jobs.put_round(engine, kind, 1)
            work()
    asked = {each[0]: each for each in of_large(seen)}
    with Session(engine) as session:
        ended = session.exec(select(Incident).where(Incident.project_name == "noisy")).one()
    assert (ended.state, ended.run_count) == (db.CLOSED, 6)
    assert len(asked) > 30
    scanning = {statement: whole_tables(plan(engine, *each)) for statement, each in asked.items()}
    assert {statement: lines for statement, lines in scanning.items() if lines} == {}


def test_a_run_that_nobody_told_of_is_not_searched_for_long(
    engine: Engine, seen: list[tuple[str, Any]]
) -> None:
    history.fill(engine, 20_000)
    seen.clear()
    with pytest.raises(HTTPException):
        pages.run(engine, "Shop", 10_000_000)
    asked = [each for each in seen if re.search(r"FROM (run|job)\b", each[0])]
    assert [whole_tables(plan(engine, *each)) for each in asked] == [[], []]
