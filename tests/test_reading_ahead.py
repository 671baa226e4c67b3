"""Runs that wait beside one another are read in one request, whatever waits between them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.storms import stage
from triage import azdo, config, diagnosis, jobs, worker
from triage.intake.deliveries import Keeper
from triage.sandbox.organisation import Organisation
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
