"""What ended long ago is forgotten, and nothing else."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlmodel import Session, SQLModel, col, func, select, update

from tests import findings
from tests.bench import history as long_history
from triage import config, db, diagnosis, history, jobs, plan, publish, record, service, worker
from triage.db import Delivery, Effect, FindingRow, Incident, Job, TriagedRun
from triage.domain import RunRef
from triage.errors import UsageError
from triage.jobs import State

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

KEEP = timedelta(days=100)
LONG_AGO = db.now() - timedelta(days=101)
LATELY = db.now() - timedelta(days=99)
POLICY = plan.Policy(settle_seconds=0.0, default_assignee="")
TABLES: tuple[type[SQLModel], ...] = (Incident, FindingRow, TriagedRun, Effect, Job, Delivery)


def broke(engine: Engine, secret: str, at: datetime, *runs: int, state: str = db.CLOSED) -> int:
    """Record runs that failed of one secret, all that was done about them, and when that was over."""
    for number in runs:
        ref = RunRef(findings.PROJECT, number)
        job = queued(engine, ref)
        told = findings.finding(of_run=findings.run(number))
        record.finding(engine, told, tag=secret, title=publish.title(told), fingerprint="", policy=POLICY)
        assert jobs.complete(engine, job, "done")
    with Session(engine) as session, session.begin():
        incident = session.exec(select(Incident).where(Incident.tag == secret)).one()
        incident.state, incident.last_seen_at, incident.closed_at = state, at, at
        incident.key += secret
        session.add(
            Effect(
                key=f"item:{incident.id}", kind="item", incident_id=incident.id, state="done", intended_at=at
            )
        )
        in_it = select(FindingRow.run_row).where(FindingRow.incident_id == incident.id)
        session.exec(update(TriagedRun).where(col(TriagedRun.id).in_(in_it)).values(triaged_at=at))
        session.exec(
            update(Job)
            .where(col(Job.run_id).in_(runs) | (col(Job.incident_id) == incident.id))
            .values(finished_at=at, state=State.COMPLETED)
        )
        assert incident.id is not None
        return incident.id


def queued(engine: Engine, ref: RunRef) -> Job:
    assert jobs.put(engine, ref, marker="1000")
    while (job := jobs.claim(engine, "one")) is not None:
        if job.run_id == ref.id:
            return job
        jobs.cancel(engine, job, "not of interest here")
    raise AssertionError


def left(engine: Engine) -> dict[str, int]:
    with Session(engine) as session:
        return {
            str(table.__tablename__): session.exec(select(func.count()).select_from(table)).one()
            for table in TABLES
        }


def incidents(engine: Engine) -> list[int | None]:
    with Session(engine) as session:
        return list(session.exec(select(Incident.id).order_by(col(Incident.id))))


def test_a_closed_incident_is_forgotten_with_all_that_belongs_to_it(engine: Engine) -> None:
    broke(engine, "long over", LONG_AGO, 1, 2)
    kept = [
        broke(engine, "over lately", LATELY, 3, 4),
        broke(engine, "open", LONG_AGO, 5, 6, state=db.OPEN),
        broke(engine, "ending", LONG_AGO, 7, state=db.ENDING),
    ]
    done = history.forget(engine, KEEP)
    assert str(done) == "Forgot 1 incidents, 2 runs and 0 events."
    assert incidents(engine) == kept
    there = left(engine)
    assert (there["finding"], there["run"], there["effect"]) == (5, 5, 3)
    assert history.forget(engine, KEEP).incidents == 0
    assert left(engine) == there


def test_the_newest_incident_keeps_its_number(engine: Engine) -> None:
    """Else SQLite would give it to the next one, and a work item from then would lead to another incident."""
    only = broke(engine, "long over", LONG_AGO, 1)
    history.forget(engine, KEEP)
    assert incidents(engine) == [only]
    following = broke(engine, "lately", LATELY, 2)
    assert following > only
    history.forget(engine, KEEP)
    assert incidents(engine) == [following]


def test_what_waits_is_not_forgotten(engine: Engine) -> None:
    over = broke(engine, "long over", LONG_AGO, 1)
    broke(engine, "lately", LATELY, 2)
    with Session(engine) as session, session.begin():
        session.add(Job(key="merge:1", kind="merge", incident_id=over, created_at=LONG_AGO))
        session.add(Job(key="waits", run_id=9, created_at=LONG_AGO))
    history.forget(engine, KEEP)
    assert over in incidents(engine)
    with Session(engine) as session:
        waiting = session.exec(select(Job.key).where(col(Job.finished_at).is_(None))).all()
    assert sorted(waiting) == ["merge:1", "waits"]


def test_runs_without_an_incident_events_and_warnings_are_forgotten(engine: Engine) -> None:
    for number, at in enumerate([LONG_AGO, LATELY]):
        ref = RunRef(findings.PROJECT, number)
        record.note(engine, findings.finding(of_run=findings.run(number)))
        with Session(engine) as session, session.begin():
            session.exec(update(TriagedRun).where(col(TriagedRun.run_key) == str(ref)).values(triaged_at=at))
            session.add(Delivery(source="hook", outcome="ignored", received_at=at))
            session.add(Effect(key=f"warned-{number}", kind="notice", state="done", intended_at=at))
    done = history.forget(engine, KEEP)
    assert (done.runs, done.events) == (1, 1)
    there = left(engine)
    assert (there["run"], there["finding"], there["delivery"], there["effect"]) == (1, 1, 1, 1)


def test_periodic_work_that_ended_well_is_forgotten_after_a_week(engine: Engine) -> None:
    at = db.now() - history.ROUNDS_KEPT - timedelta(minutes=1)
    with Session(engine) as session, session.begin():
        session.add(Job(key="sweep@1", state=State.COMPLETED, kind="sweep", finished_at=at))
        session.add(Job(key="sweep@2", state=State.DISCARDED, kind="sweep", finished_at=at))
        session.add(Job(key="sweep@3", state=State.COMPLETED, kind="sweep", finished_at=db.now()))
        session.add(Job(key="run@1", state=State.COMPLETED, project="shop", run_id=1, finished_at=at))
    history.forget(engine, KEEP)
    with Session(engine) as session:
        kept = sorted(session.exec(select(Job.key)))
    assert kept == ["run@1", "sweep@2", "sweep@3"]


def test_a_run_that_fails_again_while_it_is_forgotten_is_told_of(engine: Engine) -> None:
    ref = RunRef(findings.PROJECT, 1)
    found = findings.finding(of_run=findings.run(1))
    record.run(engine, found.run, logs_read=1, conclusion="Nothing was found.")
    with Session(engine) as session, session.begin():
        session.exec(update(TriagedRun).values(triaged_at=LONG_AGO))
    chosen, go_on = threading.Event(), threading.Event()

    def pause(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if threading.current_thread().name == "forgetting" and statement.startswith("SELECT run.id"):
            chosen.set()
            go_on.wait(10)

    def triage_again() -> None:
        record.run(engine, found.run, logs_read=1, conclusion="An expired secret.")
        record.finding(engine, found, tag="t", title="It expired", fingerprint="", policy=POLICY)

    event.listen(engine, "after_cursor_execute", pause)
    forgetting = threading.Thread(target=history.forget, args=(engine, KEEP), name="forgetting")
    forgetting.start()
    try:
        assert chosen.wait(10)
        with ThreadPoolExecutor(1) as pool:
            triaging = pool.submit(triage_again)
            wait([triaging], timeout=1)
            go_on.set()
            triaging.result()
    finally:
        go_on.set()
        forgetting.join()
        event.remove(engine, "after_cursor_execute", pause)
    (number,) = incidents(engine)
    found_news = record.news(engine, number or 0)
    assert found_news is not None
    assert [run.ref for run in found_news[1].runs] == [ref]


def test_a_job_that_is_tried_again_while_it_is_forgotten_stays(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add(Job(key="run@1", state=State.DISCARDED, project="shop", run_id=1, finished_at=LONG_AGO))
    forgetting = threading.Thread(target=history.forget, args=(engine, KEEP))
    with Session(engine) as session, session.begin():
        again = {"state": State.AVAILABLE, "finished_at": None}  # as by jobs.replay, just before its commit
        session.exec(update(Job).values(**again))
        forgetting.start()
        forgetting.join(0.5)
    forgetting.join()
    assert left(engine)["job"] == 1


def test_a_long_history_is_forgotten_little_by_little(engine: Engine) -> None:
    """Nobody who wants to write waits for long, and what there is no time for is left for the next day."""
    long_history.fill(engine, 5000)
    with engine.begin() as connection:
        for table, name in (("run", "triaged_at"), ("delivery", "received_at"), ("job", "created_at")):
            connection.execute(sa.text(f"UPDATE {table} SET {name} = :at"), {"at": LONG_AGO})
        connection.execute(
            sa.text("UPDATE job SET finished_at = :at WHERE finished_at IS NOT NULL"), {"at": LONG_AGO}
        )
        connection.execute(
            sa.text("UPDATE incident SET last_seen_at = :at, closed_at = :at"), {"at": LONG_AGO}
        )
    before = left(engine)
    done = history.forget(engine, KEEP, seconds=0)
    assert (str(done), left(engine)) == (
        "Forgot 0 incidents, 0 runs and 0 events. More is left for the next time.",
        before,
    )
    deleted: list[int] = []
    event.listen(
        engine,
        "after_cursor_execute",
        lambda _c, cursor, statement, *_: deleted.append(cursor.rowcount) if "DELETE" in statement else None,
    )
    assert history.forget(engine, KEEP).is_all
    assert 0 < max(deleted) <= 500
    there = left(engine)
    assert (there["delivery"], there["job"]) == (0, 100), "those that wait"
    open_ones = long_history._OPEN
    assert there["incident"] == open_ones + 1
    assert there["run"] == there["finding"]


def test_a_sweep_does_not_look_at_what_is_forgotten() -> None:
    settings = config.load(azure_devops={"url": "https://dev.azure.com/contoso", "token": "t"})
    with pytest.raises(UsageError, match="say at most --since 400d"):
        service.sweep(settings, timedelta(days=401), [])


@pytest.mark.parametrize(("days", "is_fine"), [(0, True), (30, True), (29, False), (-1, False)])
def test_how_long_is_a_month_at_least(days: int, is_fine: bool) -> None:  # noqa: FBT001
    if is_fine:
        assert config.load(history={"keep_days": days}).history.keep_days == days
        return
    with pytest.raises(UsageError, match=r"history\.keep_days"):
        config.load(history={"keep_days": days})


@pytest.mark.parametrize(("days", "outcomes"), [(100, ["Forgot 1 incidents, 1 runs and 0 events."]), (0, [])])
def test_a_worker_forgets_by_itself(engine: Engine, days: int, outcomes: list[str]) -> None:
    broke(engine, "long over", LONG_AGO, 1)
    broke(engine, "lately", LATELY, 2)
    settings = config.load(
        azure_devops={"url": "http://127.0.0.1:1/contoso", "token": "t"}, history={"keep_days": days}
    )
    mate = worker.Worker(settings, engine, diagnosis.knowledge(settings), threading.Event())
    door = mate.account.door()
    for _ in range(2):
        mate.next_rounds = 0.0
        mate.put_rounds()
        while (job := jobs.claim(engine, mate.id)) is not None:
            if job.kind == jobs.Kind.FORGET:
                mate.handle(door, job)
            else:
                jobs.cancel(engine, job, "not of interest here")
    with Session(engine) as session:
        assert session.exec(select(Job.outcome).where(Job.kind == jobs.Kind.FORGET)).all() == outcomes
