"""Runs that wait: kept once, claimed once, tried again, put away."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlmodel import Session, col, select, update

from triage import config, db, diagnosis, jobs, worker
from triage.db import Job
from triage.domain import RunRef
from triage.jobs import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Engine

ROOT = Path(__file__).parent.parent
PROJECT = "11111111-2222-3333-4444-555555555555"
RUN = RunRef(PROJECT, 42)


def stored(engine: Engine) -> Job:
    with Session(engine, expire_on_commit=False) as session:
        return session.exec(select(Job)).one()


def change(engine: Engine, **values: Any) -> None:
    with Session(engine) as session, session.begin():
        session.exec(update(Job).values(**values))


def claimed(engine: Engine, worker: str = "a") -> Job:
    job = jobs.claim(engine, worker)
    assert job is not None
    return job


def put(engine: Engine) -> None:
    assert jobs.put(engine, RUN, marker="1000")


def in_threads(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_run_told_twice_is_one_job(engine: Engine) -> None:
    assert jobs.put(engine, RUN, marker="1000")
    assert not jobs.put(engine, RUN, marker="1000")


@pytest.mark.parametrize("marker", ["999", "1001"])
def test_a_finish_told_a_second_apart_is_the_same_finish(engine: Engine, marker: str) -> None:
    assert jobs.put(engine, RUN, marker="1000")
    assert not jobs.put(engine, RUN, marker=marker)


@pytest.mark.parametrize("marker", ["1002", "", "stage:Deploy:1", "told:1000"])
def test_a_run_that_ends_again_is_another_job(engine: Engine, marker: str) -> None:
    assert jobs.put(engine, RUN, marker="1000")
    assert jobs.put(engine, RUN, marker=marker)


def test_runs_of_two_projects_or_environments_are_told_apart(engine: Engine) -> None:
    others = [RunRef("other", 42), RunRef(PROJECT, 42, "release", 1), RunRef(PROJECT, 42, "release", 2)]
    assert all(jobs.put(engine, ref) for ref in [RUN, *others])


def test_fifty_tellings_at_once_are_one_job(engine: Engine) -> None:
    told: list[bool] = []
    in_threads(50, lambda _: told.append(jobs.put(engine, RUN, marker="1000")))
    assert Counter(told) == {True: 1, False: 49}


def test_a_finish_told_a_second_apart_at_once_is_one_job(engine: Engine) -> None:
    for number in range(1, 11):
        told: list[bool] = []
        ref = RunRef(PROJECT, number)
        in_threads(4, lambda one: told.append(jobs.put(engine, ref, marker=str(1000 + one % 2))))  # noqa: B023
        assert Counter(told) == {True: 1, False: 3}


def test_no_job_is_claimed_by_two_workers(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        for number in range(1, 501):
            session.add(Job(key=str(number), project=PROJECT, run_id=number))
    taken: list[int] = []

    def work(number: int) -> None:
        while job := jobs.claim(engine, f"worker-{number}"):
            taken.append(job.run_id or 0)
            assert jobs.complete(engine, job, "done")

    in_threads(8, work)
    assert sorted(taken) == list(range(1, 501))
    assert jobs.unfinished(engine) == 0


def test_workers_whose_clocks_differ_share_the_work(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    for number in range(1, 31):
        jobs.put(engine, RunRef(PROJECT, number), marker="1000")
    change(engine, available_at=db.present(-7200))  # due by every clock
    told = tmp_path / "told"
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.elsewhere", hours, database_url, str(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
        for hours in ("-1", "1")
    ]
    clocks = []
    for each in workers:
        assert each.stdout is not None
        clocks.append(datetime.fromisoformat(each.stdout.readline().decode().removeprefix("ready ").strip()))
    assert clocks[1] - clocks[0] > timedelta(hours=1.9)
    for each in workers:
        assert each.stdin is not None
        each.stdin.write(b"go\n")
        each.stdin.flush()
    ended = [(each.communicate(timeout=60)[1].decode(), each.returncode) for each in workers]
    assert ended == [("", 0)] * len(workers)
    runs = [*range(1, 31), 999, 1001]
    lines = [f"{run} after 0 crashes" for run in runs for _ in range(1 if run % 5 else 2)]
    assert Counter(told.read_text().splitlines()) == Counter(lines)


def test_nothing_waiting_is_no_job(engine: Engine) -> None:
    assert jobs.claim(engine, "a") is None


def test_a_claimed_job_is_not_offered_again_while_its_lease_runs(engine: Engine) -> None:
    put(engine)
    claimed(engine)
    assert jobs.claim(engine, "b") is None


def test_a_completed_job_keeps_what_came_of_it(engine: Engine) -> None:
    put(engine)
    assert jobs.complete(engine, claimed(engine), "Read 1 log.")
    row = stored(engine)
    assert (row.state, row.outcome, row.lease) == (State.COMPLETED, "Read 1 log.", None)
    assert row.finished_at is not None
    assert jobs.claim(engine, "a") is None


def test_a_failed_job_waits_and_counts_an_attempt(engine: Engine) -> None:
    put(engine)
    assert jobs.retry(engine, claimed(engine), "connection reset")
    row = stored(engine)
    assert (row.state, row.attempts, row.error) == (State.RETRYABLE, 1, "connection reset")
    assert row.available_at > db.now()
    assert jobs.claim(engine, "a") is None


def test_a_job_that_fails_too_often_is_discarded(engine: Engine) -> None:
    put(engine)
    change(engine, attempts=jobs.MAX_ATTEMPTS - 1)
    assert jobs.retry(engine, claimed(engine), "still broken")
    assert stored(engine).state == State.DISCARDED
    assert jobs.claim(engine, "a") is None


def test_a_snooze_consumes_no_attempt(engine: Engine) -> None:
    put(engine)
    for _ in range(3 * jobs.MAX_ATTEMPTS):
        assert jobs.snooze(engine, claimed(engine), 0, "throttled")
    row = stored(engine)
    assert (row.state, row.attempts, row.crashes) == (State.RETRYABLE, 0, 0)


def test_a_snoozed_job_comes_back_at_its_time(engine: Engine) -> None:
    put(engine)
    jobs.snooze(engine, claimed(engine), 60, "throttled")
    assert jobs.claim(engine, "a") is None
    change(engine, available_at=db.present())
    assert claimed(engine).run_id == 42


def test_a_cancelled_job_never_comes_back(engine: Engine) -> None:
    put(engine)
    assert jobs.cancel(engine, claimed(engine), "The run is gone.")
    assert stored(engine).state == State.CANCELLED
    assert jobs.claim(engine, "a") is None


def test_the_job_of_a_dead_worker_is_taken_over(engine: Engine) -> None:
    put(engine)
    assert jobs.claim(engine, "dead", lease_seconds=-1)
    job = claimed(engine, "alive")
    assert (job.crashes, job.attempts) == (1, 0)


def test_a_job_that_kills_its_workers_is_put_in_quarantine(engine: Engine) -> None:
    put(engine)
    claims = 0
    while jobs.claim(engine, f"worker-{claims}", lease_seconds=-1) or stored(engine).state == State.RETRYABLE:
        claims += stored(engine).state == State.RUNNING
        if stored(engine).state == State.RETRYABLE:
            change(engine, available_at=db.present(-1))
    row = stored(engine)
    assert (row.state, claims, row.crashes) == (State.QUARANTINED, jobs.MAX_CRASHES, jobs.MAX_CRASHES)


def test_a_job_that_kills_its_workers_waits_behind_the_others(engine: Engine) -> None:
    put(engine)
    for _ in range(2):
        assert jobs.claim(engine, "dead", lease_seconds=-1)
    jobs.put(engine, RunRef(PROJECT, 43))
    assert claimed(engine).run_id == 43
    assert jobs.claim(engine, "a") is None
    with Session(engine) as session:
        row = session.exec(select(Job).where(Job.run_id == 42)).one()
        assert (row.state, row.crashes, row.lease) == (State.RETRYABLE, 2, None)


def test_quarantine_does_not_hold_up_the_next_job(engine: Engine) -> None:
    put(engine)
    change(
        engine, state=State.RUNNING, crashes=jobs.MAX_CRASHES - 1, lease="dead", lease_until=db.present(-1)
    )
    jobs.put(engine, RunRef(PROJECT, 43))
    assert claimed(engine).run_id == 43


def test_a_worker_that_lost_its_lease_writes_nothing(engine: Engine) -> None:
    put(engine)
    late = jobs.claim(engine, "a", lease_seconds=-1)
    assert late is not None
    claimed(engine, "a")  # the same worker, but another claim
    assert not jobs.complete(engine, late, "too late")
    assert not jobs.retry(engine, late, "too late")
    assert not jobs.snooze(engine, late, 5, "too late")
    assert not jobs.cancel(engine, late, "too late")
    assert not jobs.extend(engine, late)
    row = stored(engine)
    assert (row.state, row.attempts, row.outcome) == (State.RUNNING, 0, "")


def test_a_heartbeat_keeps_the_job(engine: Engine) -> None:
    put(engine)
    job = jobs.claim(engine, "a", lease_seconds=-1)
    assert job is not None
    assert jobs.extend(engine, job)
    assert jobs.claim(engine, "b") is None


def test_waits_double_up_to_a_cap() -> None:
    waits = [jobs.backoff_seconds(attempts) for attempts in range(1, jobs.MAX_ATTEMPTS + 1)]
    assert 3 < waits[0] < 7
    assert max(waits) <= 4 * 3600 * 1.25
    assert timedelta(hours=24).total_seconds() < sum(waits) < timedelta(hours=48).total_seconds()


def test_periodic_work_that_failed_for_long_is_soon_done_once_it_can_be(engine: Engine) -> None:
    assert jobs.put_round(engine, jobs.Kind.SWEEP, 300)
    change(engine, attempts=jobs.MAX_ATTEMPTS - 2)
    assert jobs.retry(engine, claimed(engine), "no right to read builds")
    assert stored(engine).available_at < db.now() + timedelta(minutes=15)


def test_waits_are_spread() -> None:
    assert len({jobs.backoff_seconds(3) for _ in range(20)}) > 1


def test_a_finished_job_can_be_played_again(engine: Engine) -> None:
    put(engine)
    job = claimed(engine)
    assert job.id is not None
    assert not jobs.replay(engine, job.id), "it is still running"
    change(engine, state=State.QUARANTINED, crashes=6, attempts=3, lease=None)
    assert jobs.replay(engine, job.id)
    again = claimed(engine)
    assert (again.crashes, again.attempts, again.error) == (0, 0, "")


def test_the_runs_of_a_project_are_taken_in_their_order(engine: Engine) -> None:
    for number in (3, 1, 2):
        jobs.put(engine, RunRef(PROJECT, number))
    assert [claimed(engine).run_id for _ in range(3)] == [3, 1, 2]


def test_a_project_with_many_failed_runs_holds_up_no_other(engine: Engine) -> None:
    for number in range(1, 101):
        jobs.put(engine, RunRef("noisy", number))
    taken = [claimed(engine).project for _ in range(10)]
    for number in (1, 2):
        jobs.put(engine, RunRef("quiet", number))
    taken = [claimed(engine).project for _ in range(4)]
    assert taken.count("quiet") == 2


def test_telling_of_an_incident_comes_before_any_run(engine: Engine) -> None:
    put(engine)
    assert jobs.put_round(engine, jobs.Kind.SWEEP, 300)
    assert claimed(engine).kind == jobs.Kind.SWEEP


def test_a_round_is_put_once_for_each_slot_of_time(engine: Engine) -> None:
    put_by: list[bool] = []
    in_threads(20, lambda _: put_by.append(jobs.put_round(engine, jobs.Kind.SWEEP, 3600)))
    assert put_by.count(True) in {1, 2}, "two only where the slot ends just now"


def test_exactly_the_finished_states_have_an_end(engine: Engine) -> None:
    ends: dict[State, Callable[[Job], bool]] = {
        State.COMPLETED: lambda job: jobs.complete(engine, job, "done"),
        State.CANCELLED: lambda job: jobs.cancel(engine, job, "gone"),
        State.DISCARDED: lambda job: jobs.retry(engine, job, "broken"),
        State.RETRYABLE: lambda job: jobs.snooze(engine, job, 60, "throttled"),
    }
    for number in range(1, len(ends) + 1):
        jobs.put(engine, RunRef(PROJECT, number))
    change(engine, attempts=jobs.MAX_ATTEMPTS - 1)
    for end in ends.values():
        assert end(claimed(engine))
    jobs.put(engine, RunRef(PROJECT, 98))
    with Session(engine) as session, session.begin():
        session.exec(update(Job).where(col(Job.run_id) == 98).values(crashes=jobs.MAX_CRASHES - 1))
    while jobs.claim(engine, "dying", lease_seconds=-1):
        pass
    jobs.put(engine, RunRef(PROJECT, 99))
    with Session(engine) as session:
        ended = {job.state: job.finished_at is not None for job in session.exec(select(Job))}
    assert ended == {state: state in jobs.FINISHED for state in State if state != State.RUNNING}
    assert jobs.unfinished(engine) == 2


def test_a_worker_whose_database_goes_away_during_a_job_is_at_none_afterwards(engine: Engine) -> None:
    """Else it would be ended, long after, for a job that takes too long."""
    settings = config.load(azure_devops={"url": "http://127.0.0.1:1/contoso", "token": "t"})
    stopping, told = threading.Event(), []
    mate = worker.Worker(settings, engine, diagnosis.knowledge(settings), stopping)
    put(engine)

    def on_job(running: bool) -> None:  # noqa: FBT001 - as it is called
        told.append(running)
        if not running:
            stopping.set()
        with engine.begin() as connection:
            away = "job RENAME TO away" if running else "away RENAME TO job"
            connection.exec_driver_sql(f"ALTER TABLE {away}")

    mate.on_job = on_job
    mate.next_rounds = float("inf")
    mate.start()
    mate.join(20)
    stopping.set()
    assert told == [True, False]
