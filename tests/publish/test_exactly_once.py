"""Two workers, crashes and lost replies: still one work item that knows every pipeline."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlmodel import Session, select

from tests import findings
from tests.publish.conftest import POLICY, Stage
from triage import azdo, db, jobs, plan, publish, record, tell
from triage.db import Incident, Job
from triage.errors import RetryLater, Snooze
from triage.sandbox.organisation import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

    from triage.domain import Finding

PROMPT = replace(POLICY, group_wait=timedelta(0), group_interval=timedelta(0))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = db.open_engine(f"sqlite:///{tmp_path}/triage.db")
    db.migrate(engine)
    yield engine
    engine.dispose()


def record_it(engine: Engine, stage: Stage, finding: Finding, policy: plan.Policy = PROMPT) -> None:
    tag = plan.incident_tag(stage.organisation.url, plan.incident_key(finding))
    record.finding(engine, finding, tag=tag, title=publish.title(finding), fingerprint="", policy=policy)


def telling(engine: Engine, worker: str = "one") -> Job:
    job = jobs.claim(engine, worker)
    assert job is not None
    assert job.kind == jobs.Kind.INCIDENT
    return job


def tell_it(door: azdo.Door, engine: Engine, job: Job) -> None:
    tell.incident(door, engine, PROMPT, "http://127.0.0.1:8080", job)
    assert jobs.complete(engine, job, "told")


def the_incident(engine: Engine) -> Incident:
    with Session(engine, expire_on_commit=False) as session:
        return session.exec(select(Incident)).one()


def test_all_that_fails_before_the_telling_is_told_at_once(engine: Engine, stage: Stage) -> None:
    for number in range(41, 44):
        run = findings.run(number, pipeline_id=number, pipeline_name=f"shop-{number}")
        record_it(engine, stage, stage.finding(run))
    tell_it(stage.door, engine, telling(engine))
    assert jobs.claim(engine, "one") is None
    (item,) = stage.project.work_items.values()
    linked = {each["url"] for each in item["relations"] if each["rel"] == "ArtifactLink"}
    assert linked == {f"vstfs:///Build/Build/{number}" for number in (41, 42, 43)}
    assert item["rev"] == 1
    assert {tags[0] for tags in stage.project.build_tags.values()} == {"expired-credential"}
    assert len(stage.project.build_tags) == 3


def test_what_fails_during_the_telling_is_told_by_the_next(engine: Engine, stage: Stage) -> None:
    record_it(engine, stage, stage.finding())
    first = telling(engine)
    record.begin_telling(engine, first.incident_id or 0, 0)
    there = stage.finding(findings.run(42, pipeline_id=8, pipeline_name="shop-test"))
    record_it(engine, stage, there)
    second = telling(engine, "two")
    tell_it(stage.door, engine, first)
    tell_it(stage.door, engine, second)
    (item,) = stage.project.work_items.values()
    linked = {each["url"] for each in item["relations"] if each["rel"] == "ArtifactLink"}
    assert linked == {"vstfs:///Build/Build/41", "vstfs:///Build/Build/42"}


def test_a_finding_told_twice_counts_once(engine: Engine, stage: Stage) -> None:
    for _ in range(3):
        record_it(engine, stage, stage.finding())
    assert the_incident(engine).run_count == 1


@pytest.mark.parametrize(
    "path", [r"/tags/", r"/wit/workitems/\$", r"/threads$"], ids=["tag", "work item", "thread"]
)
@pytest.mark.parametrize("lose_reply", [True, False], ids=["reply lost", "refused"])
def test_a_telling_tried_again_after_a_fault_leaves_one_of_each(
    engine: Engine,
    stage: Stage,
    path: str,
    lose_reply: bool,  # noqa: FBT001
) -> None:
    record_it(engine, stage, stage.finding(findings.pull_request_run()))
    for method in ("POST", "PUT"):
        fault = Fault(method, path, status=None if lose_reply else 500, lose_reply=lose_reply)
        stage.organisation.faults.append(fault)
    job = telling(engine)
    with pytest.raises(RetryLater):
        tell_it(stage.door, engine, job)
    tell_it(stage.door, engine, job)
    assert stage.project.build_tags[41] == ["expired-credential"]
    assert len(stage.project.work_items) == 1
    (thread,) = stage.threads
    (number,) = stage.project.work_items
    assert f"/_workitems/edit/{number}" in thread["comments"][0]["content"]


def test_two_tellings_of_a_pull_request_at_once_leave_one_thread(engine: Engine, stage: Stage) -> None:
    told = []
    for number in (41, 42):
        record_it(engine, stage, stage.finding(findings.pull_request_run(number)))
        told.append(telling(engine, f"worker-{number}"))
        record.begin_telling(engine, told[-1].incident_id or 0, len(told) - 1)
    stage.organisation.faults.append(Fault("GET", "/threads$", delay_seconds=0.5))
    later: list[Snooze] = []

    def act(job: Job) -> None:
        door = azdo.connect(stage.organisation.url, "played")
        for _ in range(50):
            try:
                tell_it(door, engine, job)
            except Snooze as busy:
                later.append(busy)
                time.sleep(0.1)
            else:
                return

    threads = [threading.Thread(target=act, args=(job,)) for job in told]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert later
    assert len(stage.threads) == 1
    assert len(stage.project.work_items) == 1
    assert the_incident(engine).run_count == 2


def test_a_storm_of_one_pipeline_leaves_few_revisions(engine: Engine, stage: Stage) -> None:
    for number in range(41, 44):
        record_it(engine, stage, stage.finding(findings.run(number)))
        tell_it(stage.door, engine, telling(engine))
    (item,) = stage.project.work_items.values()
    assert item["rev"] == 1
    for number in range(100, 110):
        stage.project.builds[number] = {"id": number, "result": "failed", "status": "completed"}
        record_it(engine, stage, stage.finding(findings.run(number)))
    tell_it(stage.door, engine, telling(engine))
    (item,) = stage.project.work_items.values()
    assert item["rev"] == 2
    assert the_incident(engine).item_count == 13
