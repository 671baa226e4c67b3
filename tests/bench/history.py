"""Measure what a long history costs: a claim and the pages at 1,000 to 1,000,000 stored runs, on both databases.

`python -m tests.bench.history [--runs 1000 100000 1000000]` takes a few minutes. Times are medians; what
counts is the ratio to the smallest history.
"""

# ruff: noqa: T201 - a report

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlmodel import SQLModel

from tests import postgres
from triage import db, jobs
from triage.web import measures, pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Engine

PROJECT = "11111111-2222-3333-4444-555555555555"
_TIMES = 30
_RUNS_OF_AN_INCIDENT = 50
_OPEN, _GIVEN_UP = 4, 4  # incidents and jobs, however long the history: what is listed, not what is kept


def fill(engine: Engine, runs: int) -> None:
    """Write a history: all jobs are done but a few, one run in five had a finding."""
    moment = f"'{db.now().isoformat(' ')}'"
    if engine.dialect.name == "postgresql":
        moment += "::timestamptz"
    numbers = (
        f"(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {runs}) SELECT i FROM n) AS n"
        if engine.dialect.name == "sqlite"
        else f"generate_series(1, {runs}) AS n(i)"
    )
    found = runs // 5
    incidents = max(1, found // _RUNS_OF_AN_INCIDENT)
    filled: dict[str, dict[str, str]] = {
        "incident": {
            "id": "i", "key": "'k' || i", "tag": "'t' || i", "project_id": f"'{PROJECT}'",
            "state": f"CASE WHEN i <= {_OPEN} THEN 'open' ELSE 'closed' END",
            "renewal": "'{}'", "work_item": "i", "opened_at": moment, "last_seen_at": moment,
        },
        "run": {
            "id": "i", "run_key": "'r' || i", "project_id": f"'{PROJECT}'", "project_name": "'Shop'",
            "run_id": "i", "pipeline_id": "i % 100", "triaged_at": moment,
        },
        "job": {
            "id": "i", "key": "'r' || i || '@1000'", "project": f"'{PROJECT}'", "run_id": "i",
            "kind": "'build'",
            "state": f"CASE WHEN i > {runs - 100} THEN 'available' WHEN i <= {_GIVEN_UP} THEN 'discarded' "
            "ELSE 'completed' END",
            "available_at": moment, "created_at": moment,
            "finished_at": f"CASE WHEN i <= {runs - 100} THEN {moment} END",
        },
        "delivery": {"id": "i", "received_at": moment, "run_key": "'r' || i"},
        "finding": {
            "id": "i", "run_row": "i * 5", "incident_id": f"1 + i % {incidents}", "found_at": moment,
        },
        "effect": {
            "id": "i", "key": "'e' || i", "incident_id": f"1 + i % {incidents}", "state": "'done'",
            "intended_at": moment,
        },
    }  # fmt: skip
    limits = {"incident": incidents, "finding": found, "effect": found}
    with engine.begin() as connection:
        for name, told in filled.items():
            table = SQLModel.metadata.tables[name]
            values = _others(table) | told
            names, terms = ", ".join(f'"{each}"' for each in values), ", ".join(values.values())
            where = f"WHERE i <= {limits.get(name, runs)}"
            connection.execute(sa.text(f"INSERT INTO {name} ({names}) SELECT {terms} FROM {numbers} {where}"))
            if engine.dialect.name == "postgresql" and "id" in table.c:
                last = f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), max(id)) FROM {name}"
                connection.exec_driver_sql(last)
    if engine.dialect.name == "postgresql":  # does so by itself, a little later; SQLite does not
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
            connection.exec_driver_sql("CHECKPOINT")


def _others(table: sa.Table) -> dict[str, str]:
    """Return something for each column that must not be empty."""
    kinds = {"VARCHAR": "'x'", "INTEGER": "0", "BOOLEAN": "false"}
    needed = [column for column in table.columns if not column.nullable and not column.primary_key]
    return {column.name: kinds[str(column.type)] for column in needed if str(column.type) in kinds}


ASKED: dict[str, Callable[[Engine], Any]] = {
    "claim": lambda engine: jobs.claim(engine, "bench"),
    "periodic round": lambda engine: jobs.put_round(engine, jobs.Kind.SWEEP, 300),
    "measures": lambda engine: list(measures._Measures(engine).collect()),
    "inbox: incidents": pages.incidents,
    "inbox: runs": pages.runs,
    "inbox: troubled": pages.troubled,
    "incident": lambda engine: pages.incident(engine, 1),
    "run": lambda engine: pages.run(engine, "Shop", 77),
    "deliveries": pages.deliveries,
}


def main(sizes: list[int]) -> None:
    """Measure on both kinds and print a table for each."""
    programs = postgres.programs()
    with tempfile.TemporaryDirectory(prefix="triage-history-") as folder:
        _measure("SQLite", sizes, lambda size: f"sqlite:///{Path(folder) / f'{size}.db'}")
    if programs is None:
        print(postgres.MISSING)
        return
    server = postgres.Server(programs)
    try:
        _measure("PostgreSQL", sizes, lambda _: server.url(server.create()))
    finally:
        server.close()


def _measure(kind: str, sizes: list[int], place: Callable[[int], str]) -> None:
    taken: dict[str, list[float]] = {name: [] for name in ASKED}
    for size in sizes:
        engine = db.open_engine(place(size))
        db.migrate(engine)
        fill(engine, size)
        for name, ask in ASKED.items():
            ask(engine)
            taken[name].append(statistics.median(_seconds(ask, engine) for _ in range(_TIMES)))
        engine.dispose()
    print(f"\n{kind:18}" + "".join(f"{size:>22,}" for size in sizes))
    for name, seconds in taken.items():
        cells = (f"{1000 * each:12.2f} ms {each / seconds[0]:5.2f} ×" for each in seconds)
        print(f"{name:18}" + "".join(f"{cell:>22}" for cell in cells))


def _seconds(ask: Callable[[Engine], Any], engine: Engine) -> float:
    begun = time.perf_counter()
    ask(engine)
    return time.perf_counter() - begun


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 100_000, 1_000_000])
    main(parser.parse_args().runs)
