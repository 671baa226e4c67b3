"""Runs that wait beside one another are read in one request, whatever waits between them."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlmodel import Session, select

from tests.storms import stage
from triage import azdo, config, db, diagnosis, jobs, worker
from triage.db import TriagedRun
from triage.domain import RunRef
from triage.intake.deliveries import Keeper
from triage.sandbox.organisation import Organisation, wire_time
from triage.sandbox.server import serve

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

RUNS = 12


@pytest.mark.parametrize("projects", [["noisy"], ["noisy", "loud"], ["noisy", "loud", "shrill"]])
def test_the_runs_of_each_project_are_read_in_one_request(engine: Engine, projects: list[str]) -> None:
    organisation = Organisation("contoso")
    with serve(organisation, token=stage.TOKEN) as played:
        settings = config.load(
            azure_devops={"url": played.url, "token": stage.TOKEN}, policy={"settle_seconds": 0}
        )
        told = [stage.fail(organisation, name, RUNS, 1, 0) for name in projects]
        keeper = Keeper(engine)
        for body in (body for each in told for body in each):
            keeper.store(body, played.url)
        mate = worker.Worker(settings, engine, diagnosis.knowledge(settings), threading.Event())
        door = azdo.connect(played.url, stage.TOKEN)
        taken = []
        while (job := jobs.claim(engine, mate.id)) is not None:
            if job.kind == jobs.Kind.BUILD:
                taken.append(job.project)
                mate.handle(door, job)
            else:
                jobs.cancel(engine, job, "not of interest here")
    of_runs = [path for _, path in organisation.asked if path.lower().endswith("/_apis/build/builds")]
    assert len(taken) == RUNS * len(projects)
    assert len(set(taken[: len(projects)])) == len(projects), "they take turns"
    assert len(of_runs) == len(projects)


def test_a_run_that_has_ended_again_is_not_taken_for_what_it_was(engine: Engine) -> None:
    organisation = Organisation("contoso")
    with serve(organisation, token=stage.TOKEN) as played:
        settings = config.load(
            azure_devops={"url": played.url, "token": stage.TOKEN}, policy={"settle_seconds": 0}
        )
        keeper = Keeper(engine)
        for body in stage.fail(organisation, "noisy", 3, 1, 0):
            keeper.store(body, played.url)
        mates = [
            worker.Worker(settings, engine, diagnosis.knowledge(settings), threading.Event(), name=name)
            for name in ("one", "other")
        ]
        door = azdo.connect(played.url, stage.TOKEN)

        def work(mate: worker.Worker) -> RunRef:
            while (job := jobs.claim(engine, mate.id)) is not None:
                if job.kind == jobs.Kind.BUILD:
                    mate.handle(door, job)
                    return RunRef(job.project, job.run_id or 0)
                jobs.cancel(engine, job, "not of interest here")
            raise AssertionError

        work(mates[0])  # has read the others, too
        ref = work(mates[1])
        build = organisation.projects[ref.project].builds[ref.id]
        ended = db.now() + timedelta(minutes=1)  # a person had its failed stage run again
        build["finishTime"] = wire_time(ended)
        assert jobs.put(engine, ref, marker=str(int(ended.timestamp())))
        work(mates[0])
        assert work(mates[0]) == ref
    with Session(engine) as session:
        row = session.exec(select(TriagedRun).where(TriagedRun.run_id == ref.id)).one()
    assert row.finished_at is not None
    assert abs(row.finished_at - ended) < timedelta(seconds=1)
