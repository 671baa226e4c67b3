"""With a long history a claim and every page find their rows by an index, on both kinds of database."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from fastapi import HTTPException
from sqlmodel import Session

from tests.bench import history
from triage import jobs
from triage.domain import RunRef
from triage.web import pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Engine

RUNS = 100_000
LARGE = ("job", "run", "finding", "delivery", "effect")


def look(engine: Engine) -> None:
    with Session(engine) as session:
        jobs.put_look(session, "b460b0f8-0000-4000-8000-000000000003", marker="1000")


ASKED: dict[str, Callable[[Engine], Any]] = {
    "claim": lambda engine: jobs.claim(engine, "a"),
    "count the unfinished": jobs.unfinished,
    "put": lambda engine: jobs.put(engine, RunRef(history.PROJECT, RUNS + 7), marker="1000"),
    "look": look,
    "incidents": pages.incidents,
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


def test_nothing_reads_a_whole_history(engine: Engine, seen: list[tuple[str, Any]]) -> None:
    history.fill(engine, RUNS)
    found: dict[str, list[str]] = {}
    for name, ask in ASKED.items():
        seen.clear()
        ask(engine)
        asked = [
            each for each in seen if re.search(rf"(FROM|UPDATE) ({'|'.join(LARGE)}|incident)\b", each[0])
        ]
        assert asked, name
        plans = [line for statement, parameters in asked for line in plan(engine, statement, parameters)]
        found[name] = whole_tables(plans)
        if name == "claim":
            assert any("ix_job_unfinished" in line for line in plans), plans
    assert found == {name: [] for name in ASKED}


def test_a_run_that_nobody_told_of_is_not_searched_for_long(
    engine: Engine, seen: list[tuple[str, Any]]
) -> None:
    history.fill(engine, 20_000)
    seen.clear()
    with pytest.raises(HTTPException):
        pages.run(engine, "Shop", 10_000_000)
    asked = [each for each in seen if re.search(r"FROM (run|job)\b", each[0])]
    assert [whole_tables(plan(engine, *each)) for each in asked] == [[], []]
