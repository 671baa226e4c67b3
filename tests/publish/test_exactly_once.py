"""Two workers, crashes and lost replies: still one work item that knows every pipeline."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event
from sqlmodel import Session, col, func, select, update

from tests import findings
from tests.publish.conftest import POLICY, Stage
from triage import acts, azdo, db, jobs, mend, plan, publish, record, tell
from triage.db import Incident, Job
from triage.errors import RetryLater, Snooze
from triage.publish import work_item
from triage.sandbox import wire
from triage.sandbox.organisation import Fault

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from triage.domain import Finding

PROMPT = replace(POLICY, group_wait=timedelta(0), group_interval=timedelta(0))


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


def test_a_project_gets_no_more_items_than_it_can_take_and_then_one_digest(
    engine: Engine, stage: Stage
) -> None:
    thrifty = replace(PROMPT, items_per_project_hour=2)
    for number in range(1, 7):
        other = findings.connection(id=f"b460b0f8-0000-4000-8000-{number:012}", name=f"arm-{number}")
        run = findings.run(41, pipeline_id=number)
        found = stage.finding(run, attribution=replace(findings.finding().attribution, connection=other))
        record_it(engine, stage, found, thrifty)
        job = telling(engine)
        tell.incident(stage.door, engine, thrifty, "http://127.0.0.1:8080", job)
        assert jobs.complete(engine, job, "told")
    titles = [str(item["fields"]["System.Title"]) for item in stage.project.work_items.values()]
    assert [("arm-" in title) for title in titles] == [True, True, False]
    digest = list(stage.project.work_items)[2]
    with Session(engine) as session:
        numbers = [row.work_item for row in session.exec(select(Incident).order_by(Incident.id))]  # type: ignore[arg-type]
    assert numbers[2:] == [digest] * 4
    assert stage.project.work_items[digest]["rev"] == 1, "it does not hear of each of them"


def filed_too(stage: Stage, run: int = 41) -> int:
    """Let another deployment of triage file an item for the same credential. Returns its number."""
    found = stage.finding(findings.run(run))
    tag = plan.incident_tag(stage.organisation.url, plan.incident_key(found))
    act = acts.FileWorkItem(found, publish.title(found), tag, "http://127.0.0.1:8081/incidents/1")
    return int(stage.do(act).remote_id)


def test_an_item_filed_twice_is_closed_but_for_the_first(engine: Engine, stage: Stage) -> None:
    record_it(engine, stage, stage.finding())
    tell_it(stage.door, engine, telling(engine))
    incident = the_incident(engine)
    stage.organisation.search_lag_seconds = 60  # another triage files it, too, and neither can know
    double = filed_too(stage)
    work_item.update(stage.door, acts.UpdateWorkItem((findings.run(42),), 0, 2, stage.project.id, double, ""))
    copy = filed_too(stage)  # this one by a person
    stage.project.work_items[copy]["fields"]["System.CreatedBy"] = wire.person("Build Requester", "")
    stage.organisation.search_lag_seconds = 0
    with Session(engine) as session, session.begin():
        session.exec(update(Job).values(available_at=db.now()))
    job = jobs.claim(engine, "one")
    assert job is not None
    assert job.kind == jobs.Kind.MERGE
    said = tell.merge(stage.door, engine, job)
    assert said == f"Closed, as filed twice: {double}; {incident.work_item} stays."
    items = stage.project.work_items
    assert items[incident.work_item or 0]["fields"]["System.State"] == "New"
    assert items[double]["fields"]["System.State"] == "Closed"
    assert linked(stage, incident.work_item or 0) == {"41", "42"}, "the double was told of 42"
    assert items[copy]["fields"]["System.State"] == "New"
    assert tell.merge(stage.door, engine, job) == "Filed once, as it should be."


def test_whoever_knows_its_item_will_look_for_a_second_one(engine: Engine, stage: Stage) -> None:
    """At no moment is the one in the database without the other: a kill in between would leave two open."""
    seen: list[tuple[int, int]] = []

    def look(_: object) -> None:
        with db.reader(engine).connect() as connection:
            items = connection.execute(select(func.count(col(Incident.work_item))))
            checks = connection.execute(select(func.count()).where(col(Job.kind) == jobs.Kind.MERGE))
            seen.append((items.scalar_one(), checks.scalar_one()))

    record_it(engine, stage, stage.finding())
    job = telling(engine)
    event.listen(Session, "after_commit", look)
    tell_it(stage.door, engine, job)
    event.remove(Session, "after_commit", look)
    assert set(seen) == {(0, 0), (1, 1)}


def filed_by_another(engine: Engine, stage: Stage) -> tuple[int, int]:
    """Let another deployment of triage file an item just before. Returns its number, and that of ours."""
    theirs = filed_too(stage, 40)
    stage.organisation.search_lag_seconds = 60  # nor can ours know of it
    record_it(engine, stage, stage.finding())
    tell_it(stage.door, engine, telling(engine))
    stage.organisation.search_lag_seconds = 0
    ours = the_incident(engine).work_item
    assert ours is not None
    assert ours > theirs
    return theirs, ours


def linked(stage: Stage, number: int) -> set[str]:
    urls = (each["url"] for each in stage.project.work_items[number]["relations"])
    return {url.rpartition("/")[2] for url in urls if "Build/Build" in url}


def test_an_item_filed_before_ours_takes_over_what_ours_knows(engine: Engine, stage: Stage) -> None:
    """As another deployment would close ours: if each kept its own, both would be closed."""
    theirs, ours = filed_by_another(engine, stage)
    with Session(engine) as session:
        job = session.exec(select(Job).where(Job.kind == jobs.Kind.MERGE)).one()
    for said in (f"Closed, as filed twice: {ours}; {theirs} stays.", "Filed once, as it should be."):
        assert tell.merge(stage.door, engine, job) == said
    items = stage.project.work_items
    assert [items[each]["fields"]["System.State"] for each in (theirs, ours)] == ["New", "Closed"]
    assert linked(stage, theirs) == {"40", "41"}
    record_it(engine, stage, stage.finding(findings.run(42, pipeline_id=8, pipeline_name="web")))
    tell_it(stage.door, engine, telling(engine))
    assert linked(stage, theirs) == {"40", "41", "42"}
    assert not record.stands_in_digest(engine, the_incident(engine))


@pytest.mark.parametrize("by_a_person", [False, True])
def test_ours_that_another_deployment_closed_is_no_end(
    engine: Engine,
    stage: Stage,
    by_a_person: bool,  # noqa: FBT001
) -> None:
    theirs, ours = filed_by_another(engine, stage)
    if by_a_person:
        work_item.close(stage.door, stage.project.id, theirs, "Renewed.")
    work_item.close(stage.door, stage.project.id, ours, "Filed twice.")
    mend.round_of(stage.door, engine, PROMPT, Job(key="mend@1", kind="mend", lease="one/1"))
    incident = the_incident(engine)
    assert (incident.state, incident.work_item) == (("closed", ours) if by_a_person else ("open", theirs))


@pytest.mark.parametrize(("comes_again", "state"), [(False, "Closed"), (True, "New")])
def test_an_item_filed_twice_is_closed_also_when_its_incident_is_over(
    engine: Engine,
    stage: Stage,
    comes_again: bool,  # noqa: FBT001
    state: str,
) -> None:
    record_it(engine, stage, stage.finding())
    tell_it(stage.door, engine, telling(engine))
    incident = the_incident(engine)
    stage.organisation.search_lag_seconds = 60  # another triage files it, too, and neither can know
    double = filed_too(stage)
    stage.organisation.search_lag_seconds = 0
    record.end(engine, incident.id or 0, incident.last_failed_at, reason="It was renewed at once.")
    if comes_again:  # then it may be the new incident's own
        later = findings.run(42, finished_at=db.now())
        record_it(engine, stage, stage.finding(later), replace(PROMPT, reopen_within=timedelta(seconds=-1)))
    with Session(engine) as session:
        job = session.exec(select(Job).where(Job.kind == jobs.Kind.MERGE)).one()
    tell.merge(stage.door, engine, job)
    assert stage.project.work_items[double]["fields"]["System.State"] == state
