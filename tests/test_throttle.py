"""One gate for all processes: what one closes is closed for each, as long as the longest wants it."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from triage import db
from triage.errors import Snooze
from triage.throttle import SharedGate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

HERE, ELSEWHERE = "https://dev.azure.com/contoso", "https://dev.azure.com/fabrikam"


@pytest.fixture
def engines(database_url: str) -> Iterator[tuple[Engine, Engine]]:
    """Two processes' ways to one database."""
    made = db.open_engine(database_url), db.open_engine(database_url)
    db.migrate(made[0])
    yield made
    for engine in made:
        engine.dispose()


def gate(engine: Engine, url: str = HERE) -> SharedGate:
    return SharedGate(engine, url, threading.Event())


def test_what_one_process_closes_is_closed_for_the_other(engines: tuple[Engine, Engine]) -> None:
    one, two = (gate(engine) for engine in engines)
    assert two.closed_for() == (0, "")
    one.close(60, "Azure DevOps asks for patience.")
    seconds, reason = two.closed_for()
    assert 55 < seconds <= 60
    assert reason == "Azure DevOps asks for patience."
    assert gate(engines[1], HERE.upper()).closed_for()[0] > 55
    assert gate(engines[1], ELSEWHERE).closed_for() == (0, "")


def test_the_longest_closure_counts(engines: tuple[Engine, Engine]) -> None:
    one, two = (gate(engine) for engine in engines)
    one.close(60, "long")
    two.close(5, "short")
    assert one.closed_for()[0] > 55
    assert one.closed_for()[1] == "long"
    two.close(90, "longer")
    assert one.closed_for()[0] > 85


def test_many_that_close_it_for_the_first_time_at_once_do_not_fall_over(
    engines: tuple[Engine, Engine],
) -> None:
    failed: list[Exception] = []
    ready = threading.Barrier(8)

    def close(seconds: int) -> None:
        made = gate(engines[seconds % 2])
        ready.wait()
        try:
            made.close(60 + seconds, f"{seconds}")
        except Exception as error:  # noqa: BLE001 - a thread must tell
            failed.append(error)

    threads = [threading.Thread(target=close, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert gate(engines[0]).closed_for()[1] == "7"


def test_a_machine_whose_clock_is_hours_off_keeps_it_closed_as_long(
    engines: tuple[Engine, Engine], database_url: str
) -> None:
    gate(engines[0]).close(60, "asked by who is right")
    for hours in (-2, 2):
        told = subprocess.run(
            [sys.executable, "-c", _ASKED_ELSEWHERE, str(hours), database_url, HERE],
            capture_output=True,
            text=True,
            check=True,
        )
        assert 30 < float(told.stdout) <= 60
        assert gate(engines[0]).closed_for()[0] <= 60


_ASKED_ELSEWHERE = """
import sys, threading
from tests.elsewhere import shift
shift(float(sys.argv[1]))
from triage import db
from triage.throttle import SharedGate
gate = SharedGate(db.open_engine(sys.argv[2]), sys.argv[3], threading.Event())
gate.close(1, "shorter")
print(gate.closed_for()[0])
"""


def test_asking_waits_for_nobody_who_writes(engines: tuple[Engine, Engine]) -> None:
    made = gate(engines[1])
    with engines[0].begin() as writing:
        writing.exec_driver_sql("DELETE FROM throttle")
        assert made.closed_for() == (0, "")


def test_a_wait_ends_when_the_process_is_told_to_stop(engines: tuple[Engine, Engine]) -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(Snooze, match="stopping"):
        SharedGate(engines[0], HERE, stopping).pause(60)
