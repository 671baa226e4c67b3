"""What is remembered is remembered once, however many workers do so at the same moment."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from sqlmodel import Session, func, select

from tests import findings
from triage import record
from triage.db import FindingRow, TriagedRun

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

WORKERS = 8


def test_workers_at_the_same_runs_keep_each_once(engine: Engine) -> None:
    numbers = range(41, 51)
    together = threading.Barrier(WORKERS)

    def work(_: int) -> None:
        for number in numbers:
            run = findings.run(number)
            together.wait()
            record.run(engine, run, logs_read=1, conclusion="Read 1 log.")
            record.note(engine, findings.finding(of_run=run))

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, range(WORKERS)))
    with Session(engine) as session:
        assert session.exec(select(func.count()).select_from(TriagedRun)).one() == len(numbers)
        assert session.exec(select(func.count()).select_from(FindingRow)).one() == len(numbers)


def test_what_people_gave_a_run_when_they_queued_it_is_not_kept(engine: Engine) -> None:
    run = findings.run(41, variables={"token": "not-for-the-database"})
    record.run(engine, run, logs_read=1, conclusion="Read 1 log.")
    record.note(engine, findings.finding(of_run=run))
    with Session(engine) as session:
        rows = [*session.exec(select(TriagedRun)), *session.exec(select(FindingRow))]
    assert rows
    assert "not-for-the-database" not in str([row.model_dump() for row in rows])
