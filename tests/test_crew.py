"""Worker processes: one that dies, hangs or grows is replaced, and its job is not lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from sqlmodel import Session, select

from triage import config, crew, db, jobs
from triage.db import Job, TriagedRun
from triage.domain import RunRef
from triage.sandbox import stories
from triage.sandbox.organisation import Fault, Organisation
from triage.sandbox.server import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

STORY = next(story for story in stories.load() if story.name == "acr-automatic-connection")
PATIENCE_SECONDS = 60.0


@dataclass
class Stage:
    organisation: Organisation
    engine: Engine
    settings: config.Settings
    run: int

    def put(self) -> None:
        assert jobs.put(self.engine, RunRef(STORY.project_id, self.run), marker=str(time.time_ns()))

    def jobs(self) -> list[Job]:
        with Session(self.engine, expire_on_commit=False) as session:
            return list(session.exec(select(Job).where(Job.kind == "build").order_by(Job.id)))  # type: ignore[arg-type]

    def is_triaged(self) -> bool:
        with Session(self.engine) as session:
            return session.exec(select(TriagedRun.id)).first() is not None


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    organisation = Organisation("contoso")
    with serve(organisation, token="played") as played:
        settings = config.load(
            azure_devops={"url": played.url, "token": "played"},
            database={"url": f"sqlite:///{tmp_path}/triage.db"},
            policy={"group_wait_seconds": 0, "settle_seconds": 0},
            sweep={"every_seconds": 0},
            watch={"every_seconds": 0},
            after_renewal={"every_seconds": 0},
            expiry={"every_seconds": 0},
            workers=1,
        )
        engine = db.open_engine(settings.database.url)
        db.migrate(engine)
        STORY.set_up(organisation)
        (run,) = STORY.play(organisation, lambda _: None)
        yield Stage(organisation, engine, settings, run)
        engine.dispose()


def until(happened: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_a_worker_that_is_killed_is_replaced_and_its_job_done(stage: Stage) -> None:
    stage.organisation.faults.append(Fault("GET", "/timeline", delay_seconds=6))
    with crew.running(stage.settings, stage.engine):
        stage.put()
        until(lambda: stage.jobs()[0].state == jobs.State.RUNNING)
        victim = int(_children()[0])
        os.kill(victim, signal.SIGKILL)
        until(stage.is_triaged)
        until(lambda: stage.jobs()[0].state == jobs.State.COMPLETED)
    assert stage.jobs()[0].crashes == 1
    assert len(stage.organisation.projects[STORY.project_id].work_items) <= 1


def test_a_job_that_hangs_is_cut_off_and_tried_again(stage: Stage) -> None:
    stage.organisation.faults.append(Fault("GET", "/timeline", delay_seconds=8))
    hasty = stage.settings.model_copy(update={"job_seconds_max": 2.0})
    with crew.running(hasty, stage.engine):
        stage.put()
        until(lambda: stage.jobs()[0].state == jobs.State.COMPLETED)
    assert stage.jobs()[0].crashes == 1


def test_a_worker_that_grows_too_large_is_ended(stage: Stage) -> None:
    small = stage.settings.model_copy(update={"worker_memory_mb": 10})
    with crew.running(small, stage.engine):
        first = _children()[0]
        until(lambda: first not in _children())


def test_told_to_stop_a_worker_finishes_its_job(stage: Stage) -> None:
    stage.organisation.faults.append(Fault("GET", "/timeline", delay_seconds=2))
    with crew.running(stage.settings, stage.engine):
        stage.put()
        until(lambda: stage.jobs()[0].state == jobs.State.RUNNING)
    assert stage.jobs()[0].state == jobs.State.COMPLETED


def test_workers_of_two_crews_that_start_together_have_names_of_their_own(stage: Stage) -> None:
    """By its name the jobs of a worker that is gone are let go; replicas often have the same process ids."""
    places = [crew._Crew(stage.settings, stage.engine).places[0] for _ in range(2)]
    for place in places:
        place.start()
    names = {place.name for place in places}
    for place in places:
        place.end("the test is over")
    assert len(names) == 2


def _children() -> list[int]:
    """Return the worker processes there are."""
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]
