"""Failed runs that no event told of are found, once, however often one looks."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlmodel import Session, select

from triage import azdo, config, db, jobs, sweep
from triage.azdo.limits import Limits
from triage.db import Cursor, Delivery, Job
from triage.domain import RunRef
from triage.errors import RetryLater, UsageError
from triage.sandbox import server
from triage.sandbox.organisation import Fault, Organisation, Project, minutes_ago, wire_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

DAY, GRACE = timedelta(days=1), timedelta(minutes=3)


@pytest.fixture
def organisation() -> Iterator[Organisation]:
    organisation = Organisation("contoso")
    organisation.add_project("Shop")
    organisation.add_project("Bank")
    with server.serve(organisation, token="played"):
        yield organisation


def ran(project: Project, number: int, *, minutes: float, result: str = "failed") -> None:
    """Let a run end so many minutes ago."""
    project.builds[number] = {
        "id": number,
        "buildNumber": str(number),
        "status": "completed",
        "result": result,
        "finishTime": wire_time(minutes_ago(minutes)),
        "definition": {"id": 7, "name": "shop-deploy"},
        "project": project.reference(),
    }


def swept(
    organisation: Organisation, engine: Engine, *only: str, since: timedelta | None = None
) -> sweep.Swept:
    door = azdo.connect(organisation.url, "played")
    return sweep.sweep(
        door, engine, since=db.now() - since if since else None, first=DAY, grace=GRACE, only=only
    )


def queued(engine: Engine) -> set[int | None]:
    with Session(engine) as session:
        return set(session.exec(select(Job.run_id)))


def listed(organisation: Organisation) -> list[str]:
    """Return the requests in which runs were listed."""
    return [path for _, path in organisation.asked if path.lower().endswith("/_apis/build/builds")]


def test_only_failed_runs_are_queued_and_only_once(organisation: Organisation, engine: Engine) -> None:
    shop, bank = organisation.projects.values()
    ran(shop, 41, minutes=60)
    ran(shop, 42, minutes=50, result="partiallySucceeded")
    ran(shop, 43, minutes=40, result="succeeded")
    ran(bank, 51, minutes=30)
    assert str(swept(organisation, engine)) == (
        "Looked at 2 projects: 3 failed runs, of which 3 were not known."
    )
    assert queued(engine) == {41, 42, 51}
    again = swept(organisation, engine, since=DAY)
    assert (again.failed, again.missed) == (3, 0)


def test_a_run_that_an_event_has_told_of_is_left_alone(organisation: Organisation, engine: Engine) -> None:
    shop = next(iter(organisation.projects.values()))
    ran(shop, 41, minutes=60)
    door = azdo.connect(organisation.url, "played")
    finished = door.run(RunRef(shop.id, 41)).finished_at
    assert finished is not None
    assert jobs.put(engine, RunRef(shop.id, 41), marker=str(int(finished.timestamp())))
    assert swept(organisation, engine).missed == 0


def test_an_event_that_may_be_on_its_way_is_waited_for(organisation: Organisation, engine: Engine) -> None:
    shop = next(iter(organisation.projects.values()))
    ran(shop, 41, minutes=1)
    assert swept(organisation, engine).failed == 0


def test_the_next_sweep_goes_on_where_the_last_one_ended(organisation: Organisation, engine: Engine) -> None:
    shop = next(iter(organisation.projects.values()))
    swept(organisation, engine)
    ran(shop, 41, minutes=60)  # listed late, and before the last sweep's end: longer ago than it looks back
    ran(shop, 42, minutes=10)
    assert swept(organisation, engine).missed == 1
    assert swept(organisation, engine, since=DAY).missed == 1


def test_what_a_fault_cuts_off_is_swept_again(organisation: Organisation, engine: Engine) -> None:
    shop, bank = organisation.projects.values()
    ran(shop, 41, minutes=60)
    ran(bank, 51, minutes=60)
    organisation.faults.append(Fault("GET", f"{bank.id}/_apis/build/builds", status=500))
    with pytest.raises(RetryLater):
        swept(organisation, engine)
    with Session(engine) as session:
        assert [row.project_id for row in session.exec(select(Cursor))] == [shop.id]
    assert swept(organisation, engine).missed == 1
    assert queued(engine) == {41, 51}


def test_many_runs_come_page_by_page(organisation: Organisation, engine: Engine) -> None:
    shop = next(iter(organisation.projects.values()))
    for number in range(1, 451):
        ran(shop, number, minutes=60)
    assert swept(organisation, engine).missed == 450


def test_the_projects_to_sweep_can_be_named(organisation: Organisation, engine: Engine) -> None:
    for number, project in enumerate(organisation.projects.values()):
        ran(project, 41 + number, minutes=60)
    assert swept(organisation, engine, "BANK").missed == 1
    with pytest.raises(UsageError, match="no project Attic"):
        swept(organisation, engine, "Attic")


def test_what_no_event_told_of_is_shown_among_the_events(organisation: Organisation, engine: Engine) -> None:
    shop = next(iter(organisation.projects.values()))
    ran(shop, 41, minutes=60)
    swept(organisation, engine)
    with Session(engine) as session:
        (row,) = session.exec(select(Delivery))
    assert (row.source, row.outcome, row.reason) == ("sweep", "queued", "No event told of this run.")


def test_one_project_that_cannot_be_swept_holds_up_no_other(
    organisation: Organisation, engine: Engine
) -> None:
    shop, bank = organisation.projects.values()
    ran(bank, 51, minutes=60)
    organisation.faults.append(Fault("GET", f"{shop.id}/_apis/build/builds", times=99, status=500))
    with pytest.raises(RetryLater, match="Shop"):
        swept(organisation, engine)
    assert queued(engine) == {51}


def test_while_azure_devops_is_away_no_project_after_another_is_tried(
    organisation: Organisation, engine: Engine
) -> None:
    for number in range(8):
        organisation.add_project(f"Further {number}")
    organisation.faults.append(Fault("GET", "_apis/build/builds", times=99, status=500))
    with pytest.raises(RetryLater):
        swept(organisation, engine)
    assert len(listed(organisation)) == Limits().outage_failures


def test_who_was_not_swept_longest_is_swept_first(organisation: Organisation, engine: Engine) -> None:
    shop, bank = organisation.projects.values()
    organisation.faults.append(Fault("GET", f"{bank.id}/_apis/build/builds", status=500))
    with pytest.raises(RetryLater):
        swept(organisation, engine)
    organisation.asked.clear()
    swept(organisation, engine)
    assert [shop.id in path for path in listed(organisation)] == [False, False, True, True]


@pytest.mark.parametrize(("keep_days", "missed"), [(30, 1), (0, 2)])
def test_what_was_forgotten_while_nobody_swept_is_not_taken_for_new(
    organisation: Organisation, engine: Engine, keep_days: int, missed: int
) -> None:
    """As after two months in which triage might not see the project, and events told of its runs."""
    shop = next(iter(organisation.projects.values()))
    ran(shop, 41, minutes=60 * 24 * 40)
    ran(shop, 42, minutes=60 * 24 * 20)
    with Session(engine) as session, session.begin():
        session.add(Cursor(project_id=shop.id, swept_until=db.now() - timedelta(days=60)))
    door = azdo.connect(organisation.url, "played")
    told = sweep.round_of(door, engine, config.Sweep(), timedelta(days=keep_days))
    assert told.missed == missed


def test_a_machine_whose_clock_is_hours_off_leaves_no_run_out(
    organisation: Organisation, engine: Engine, database_url: str
) -> None:
    shop = next(iter(organisation.projects.values()))
    for number, hours in enumerate((-2, 2), start=41):
        told = subprocess.run(
            [
                sys.executable,
                "-W",
                "ignore",
                "-c",
                _SWEPT_ELSEWHERE,
                str(hours),
                database_url,
                organisation.url,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 0, told.stderr
        ran(shop, number, minutes=4)
        assert swept(organisation, engine).missed == 1, f"after one that was {hours} h ahead"


_SWEPT_ELSEWHERE = """
import sys
from datetime import timedelta
from tests.elsewhere import shift
shift(float(sys.argv[1]))
from triage import azdo, db, sweep
door = azdo.connect(sys.argv[3], "played")
minute = timedelta(minutes=1)
sweep.sweep(door, db.open_engine(sys.argv[2]), first=60 * minute, grace=3 * minute)
"""
