"""After renewal: what shows that it works again, and what becomes of all that was opened."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event
from sqlmodel import Session, col, select, update

from tests import findings
from tests.publish.conftest import POLICY, Stage
from triage import acts, db, jobs, mend, plan, publish, record, tell
from triage.db import Incident
from triage.errors import Snooze
from triage.sandbox.organisation import Fault, wire_time
from triage.web import pages

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from triage.domain import Finding

PROMPT = replace(POLICY, group_wait=timedelta(0), group_interval=timedelta(0))
FAILED = datetime(2026, 11, 21, 3, 12, tzinfo=UTC)  # when the run of tests.findings ended
LATER = FAILED + timedelta(hours=1)


def broke(engine: Engine, stage: Stage, finding: Finding, policy: plan.Policy = PROMPT) -> None:
    """Record a finding and tell of it."""
    tag = plan.incident_tag(stage.organisation.url, plan.incident_key(finding))
    record.finding(engine, finding, tag=tag, title=publish.title(finding), fingerprint="", policy=policy)
    job = jobs.claim(engine, "one")
    assert job is not None
    tell.incident(stage.door, engine, policy, "http://127.0.0.1:8080", job)
    assert jobs.complete(engine, job, "told")


def look(engine: Engine, stage: Stage, policy: plan.Policy = PROMPT) -> str:
    """Look once whether open incidents are over."""
    with Session(engine) as session, session.begin():
        session.exec(update(db.Job).where(db.Job.kind == "mend").values(state=jobs.State.COMPLETED))  # type: ignore[arg-type]
    return mend.round_of(stage.door, engine, policy, db.Job(key="mend@1", kind="mend", lease="one/1"))


def used(stage: Stage, at: datetime, result: str = "succeeded", number: int = 43) -> None:
    """Let a run use the connection."""
    entry = {
        "id": 1,
        "planType": "Build",
        "definition": {"id": 7, "name": "shop-deploy"},
        "owner": {"id": number, "name": str(number)},
        "finishTime": wire_time(at),
        "result": result,
    }
    stage.project.uses.setdefault(findings.CONNECTION, []).insert(0, entry)


def the_incident(engine: Engine) -> Incident:
    with Session(engine, expire_on_commit=False) as session:
        return session.exec(select(Incident)).one()


def said(stage: Stage, number: int) -> list[str]:
    return [str(each["text"]) for each in stage.project.comments.get(number, [])]


def the_item(stage: Stage) -> dict[str, Any]:
    (item,) = stage.project.work_items.values()
    return item


def test_nothing_is_over_while_nothing_shows_it(engine: Engine, stage: Stage) -> None:
    broke(engine, stage, stage.finding())
    used(stage, FAILED - timedelta(hours=1))
    used(stage, LATER, "failed")
    assert look(engine, stage) == "Looked at 1 open incident; 0 are over."
    assert the_item(stage)["fields"]["System.State"] == "New"


def test_a_run_that_used_the_connection_and_succeeded_ends_it_all(engine: Engine, stage: Stage) -> None:
    broke(engine, stage, stage.finding(findings.pull_request_run()))
    used(stage, LATER)
    assert look(engine, stage) == "Looked at 1 open incident; 1 are over."
    item = the_item(stage)
    assert item["fields"]["System.State"] == "Closed"
    assert "credential-renewed" in item["fields"]["System.Tags"]
    assert "expired-credential" not in item["fields"]["System.Tags"]
    (comment,) = said(stage, item["id"])
    assert "It works again" in comment
    assert "buildId=43" in comment
    assert stage.project.build_tags[41] == ["credential-renewed"]
    (thread,) = stage.threads
    assert "run the pipeline again" in thread["comments"][0]["content"]
    incident = the_incident(engine)
    assert incident.state == "closed"
    assert "used **prod-arm** and succeeded" in incident.closed_reason
    assert look(engine, stage) == "Looked at 0 open incidents; 0 are over."


def test_who_changed_the_connection_is_named(engine: Engine, stage: Stage) -> None:
    broke(engine, stage, stage.finding())
    stage.project.endpoints[findings.CONNECTION] = {
        "id": findings.CONNECTION,
        "name": "prod-arm",
        "type": "azurerm",
        "authorization": {"scheme": "ServicePrincipal", "parameters": {}},
        "modifiedBy": {"id": findings.REPOSITORY, "displayName": "Jo", "uniqueName": "jo@contoso.example"},
        "modificationDate": wire_time(FAILED + timedelta(minutes=30)),
    }
    used(stage, LATER)
    look(engine, stage)
    assert the_incident(engine).renewed_by == "Jo"
    assert "after Jo changed the connection" in said(stage, the_item(stage)["id"])[0]


@pytest.mark.parametrize(
    ("after", "state"), [("close", "Closed"), ("resolve", "Resolved"), ("comment", "New")]
)
def test_what_becomes_of_the_item_is_policy(engine: Engine, stage: Stage, after: str, state: str) -> None:
    broke(engine, stage, stage.finding())
    used(stage, LATER)
    look(engine, stage, replace(PROMPT, work_item_after=after))
    assert the_item(stage)["fields"]["System.State"] == state
    assert the_incident(engine).state == "closed"


def test_a_pipeline_whose_connection_is_not_known_ends_it_by_passing(engine: Engine, stage: Stage) -> None:
    broke(engine, stage, stage.finding(attribution=findings.undecided()))
    passed = {
        "id": 43,
        "buildNumber": "20261121.43",
        "status": "completed",
        "result": "succeeded",
        "startTime": wire_time(FAILED - timedelta(minutes=1)),
        "finishTime": wire_time(LATER),
        "definition": {"id": 7, "name": "shop-deploy"},
        "sourceBranch": "refs/heads/other",
        "project": stage.project.reference(),
    }
    stage.project.builds = {43: passed}
    assert "0 are over" in look(engine, stage), "another branch may do something else"
    passed["sourceBranch"] = "refs/heads/main"
    assert "0 are over" in look(engine, stage), "what ran when the other failed may have had the old secret"
    passed["startTime"] = wire_time(LATER - timedelta(minutes=1))
    assert "1 are over" in look(engine, stage)
    assert "has passed" in said(stage, the_item(stage)["id"])[0]


def test_an_item_that_a_person_closed_is_believed_and_left_alone(engine: Engine, stage: Stage) -> None:
    broke(engine, stage, stage.finding())
    the_item(stage)["fields"] |= {"System.State": "Closed", "System.ChangedDate": wire_time(LATER)}
    look(engine, stage)
    assert the_incident(engine).closed_reason.endswith("was closed by a person.")
    assert said(stage, the_item(stage)["id"]) == []


def test_it_comes_back_soon_and_is_opened_again(engine: Engine, stage: Stage) -> None:
    broke(engine, stage, stage.finding())
    used(stage, LATER)
    look(engine, stage)
    again = stage.finding(findings.run(42, finished_at=LATER + timedelta(hours=1)))
    broke(engine, stage, again)
    item = the_item(stage)
    assert item["fields"]["System.State"] == "Active"
    assert "It fails again" in said(stage, item["id"])[-1]
    assert the_incident(engine).state == "open"
    used(stage, LATER + timedelta(hours=2))
    look(engine, stage)
    assert the_item(stage)["fields"]["System.State"] == "Closed", "and it can end again"


@pytest.mark.parametrize("hours", [-2, 2])
def test_what_a_machine_opens_again_whose_clock_is_hours_off_is_told_once(
    engine: Engine, stage: Stage, database_url: str, hours: int
) -> None:
    broke(engine, stage, stage.finding())
    used(stage, LATER)
    assert "1 are over" in look(engine, stage)
    assert the_item(stage)["fields"]["System.State"] == "Closed"
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            _FOUND_ELSEWHERE,
            str(hours),
            database_url,
            the_incident(engine).tag,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    job = jobs.claim(engine, "one")
    assert job is not None
    tell.incident(stage.door, engine, PROMPT, "http://127.0.0.1:8080", job)
    assert the_item(stage)["fields"]["System.State"] != "Closed"
    assert not record.has_come_back(the_incident(engine))


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_machine_whose_clock_is_hours_off_knows_whom_somebody_is_about_to_tell(
    engine: Engine, stage: Stage, database_url: str, hours: int
) -> None:
    broke(engine, stage, stage.finding())
    incident = the_incident(engine)
    for minutes, expected in ((-1, "0"), (60, "1")):
        record.tell_later(engine, incident.id or 0, db.now() + timedelta(minutes=minutes))
        with Session(engine) as session, session.begin():
            session.exec(update(db.Job).values(available_at=db.present(60 * minutes)))
        asked = [sys.executable, "-W", "ignore", "-c", _LOOKED_ELSEWHERE, str(hours), database_url]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        assert (done.stdout.strip(), done.stderr) == (expected, "")


_LOOKED_ELSEWHERE = """
import sys
from tests.elsewhere import shift
shift(float(sys.argv[1]))
from triage import db, record
print(len(record.open_incidents(db.open_engine(sys.argv[2]), 10)))
"""


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_machine_whose_clock_is_hours_off_tells_the_work_item_when_it_is_due(
    engine: Engine, stage: Stage, database_url: str, hours: int
) -> None:
    hourly = replace(PROMPT, group_interval=timedelta(hours=1))
    broke(engine, stage, stage.finding(), hourly)
    tag = the_incident(engine).tag
    for due, told in ((False, 1), (True, 2)):
        run = findings.run(42 + due, pipeline_id=8 + due)
        record.finding(engine, stage.finding(run), tag=tag, title="", fingerprint="", policy=PROMPT)
        with Session(engine) as session, session.begin():
            session.exec(update(Incident).values(item_at=db.present(-5400 if due else -1800)))
            session.exec(update(db.Job).values(available_at=db.present(-1)))
        url = stage.organisation.url
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _TOLD_ELSEWHERE, str(hours), database_url, url],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert the_item(stage)["rev"] == told, done.stdout


_TOLD_ELSEWHERE = """
import sys
import triage.domain  # knows the time only from what is read
from tests.elsewhere import shift
shift(float(sys.argv[1]))
from datetime import timedelta
from triage import azdo, db, jobs, plan, tell
engine = db.open_engine(sys.argv[2])
hourly = plan.Policy(group_wait=timedelta(0), group_interval=timedelta(hours=1), settle_seconds=0)
while (job := jobs.claim(engine, "elsewhere")) is not None:
    if job.kind == "incident":
        print(tell.incident(azdo.connect(sys.argv[3], "played"), engine, hourly, "http://127.0.0.1:8080", job))
    jobs.complete(engine, job, "done")
"""


_FOUND_ELSEWHERE = """
import sys
from datetime import UTC, datetime
from tests.elsewhere import shift
ended = datetime(2026, 11, 21, 4, 30, tzinfo=UTC)
shift(float(sys.argv[1]))
from datetime import timedelta
from tests import findings
from triage import db, plan, record
found = findings.finding(of_run=findings.run(44, finished_at=ended))
at_once = plan.Policy(group_wait=timedelta(0), group_interval=timedelta(0))
engine = db.open_engine(sys.argv[2])
record.finding(engine, found, tag=sys.argv[3], title="", fingerprint="", policy=at_once)
"""


def test_it_comes_back_late_and_is_a_new_one_that_names_the_old(engine: Engine, stage: Stage) -> None:
    never = replace(PROMPT, reopen_within=timedelta(0))
    broke(engine, stage, stage.finding(), never)
    used(stage, LATER)
    look(engine, stage, never)
    broke(engine, stage, stage.finding(findings.run(42, finished_at=LATER + timedelta(days=90))), never)
    first, second = stage.project.work_items.values()
    text = second["fields"]["Microsoft.VSTS.TCM.ReproSteps"]
    assert "It happened before" in text
    assert f"[work item {first['id']}]" in text
    assert text.index("**This is the second time in 3 months.") < text.index("Why this connection")
    with Session(engine) as session:
        numbers = session.exec(select(Incident.id).order_by(col(Incident.id))).all()
    told = [pages.incident(engine, number or 0)["again"] for number in numbers]
    assert told == ["", next(line for line in text.splitlines() if "second time" in line)]
    assert first["fields"]["System.State"] == "Closed"


def test_how_long_it_worked_is_told_by_the_clock_of_azure_devops(engine: Engine, stage: Stage) -> None:
    broke(engine, stage, stage.finding())
    used(stage, LATER)
    look(engine, stage)
    broke(engine, stage, stage.finding(findings.run(42, finished_at=LATER + timedelta(days=90))))
    first, second = stage.project.work_items.values()
    assert first["fields"]["System.State"] == "Closed", "triage has only just seen that it worked, but it did"
    told = second["fields"]["Microsoft.VSTS.TCM.ReproSteps"]
    same_day = f"- {FAILED:%Y-%m-%d}, {FAILED:%H:%M} to {LATER:%H:%M} UTC"
    assert (same_day if FAILED.date() == LATER.date() else f"- {FAILED:%Y-%m-%d} to {LATER:%Y-%m-%d}") in told


def test_a_failure_while_it_is_being_ended_keeps_it_open(engine: Engine, stage: Stage) -> None:
    broke(engine, stage, stage.finding())
    row = the_incident(engine)
    assert record.begin_end(engine, row.id or 0, row.last_failed_at)
    later = stage.finding(findings.run(42, finished_at=LATER))
    tag = plan.incident_tag(stage.organisation.url, plan.incident_key(later))
    record.finding(engine, later, tag=tag, title="", fingerprint="", policy=PROMPT)
    record.end(engine, row.id or 0, row.last_failed_at, reason="It passed.", renewed_by="")
    assert the_incident(engine).state == "open"
    assert not record.begin_end(engine, row.id or 0, row.last_failed_at), "it is no longer the last failure"


def test_the_failed_stages_are_run_again_where_that_is_wanted(engine: Engine, stage: Stage) -> None:
    for number in (41, 42):
        record_id = f"00000000-0000-4000-8000-{number:012}"
        stage.project.timelines[number] = {
            record_id: {
                "id": record_id,
                "records": [{"id": record_id, "type": "Stage", "identifier": "Deploy", "result": "failed"}],
            }
        }
        stage.project.current_timeline[number] = record_id
        stage.project.builds[number] |= {"project": stage.project.reference()}
        broke(engine, stage, stage.finding(findings.run(number)))
    used(stage, LATER)
    look(engine, stage, replace(PROMPT, rerun_pipelines=1))
    states = {number: stage.project.builds[number]["status"] for number in (41, 42)}
    assert states == {41: "completed", 42: "inProgress"}, "the newest of the pipeline, and no other"


def test_a_digest_stays_open_for_the_others_that_it_speaks_for(engine: Engine, stage: Stage) -> None:
    thrifty = replace(PROMPT, items_per_project_hour=1)
    other = findings.connection(id="b460b0f8-0000-4000-8000-000000000009", name="arm-9")
    attribution = replace(findings.finding().attribution, connection=other)
    broke(engine, stage, stage.finding(findings.run(42), attribution=attribution), thrifty)
    broke(engine, stage, stage.finding(), thrifty)
    used(stage, LATER)
    assert "1 are over" in look(engine, stage, thrifty)
    assert [item["fields"]["System.State"] for item in stage.project.work_items.values()] == ["New", "New"]


def test_a_run_that_is_read_only_after_the_renewal_opens_nothing_again(engine: Engine, stage: Stage) -> None:
    broke(engine, stage, stage.finding())
    used(stage, LATER)
    look(engine, stage)
    late = stage.finding(findings.run(42, finished_at=LATER - timedelta(minutes=5)))
    tag = plan.incident_tag(stage.organisation.url, plan.incident_key(late))
    record.finding(engine, late, tag=tag, title="", fingerprint="", policy=PROMPT)
    incident = the_incident(engine)
    assert (incident.state, incident.run_count) == ("closed", 2)
    assert the_item(stage)["fields"]["System.State"] == "Closed"


@pytest.mark.parametrize(
    ("failed", "state"), [(LATER - timedelta(minutes=5), "closed"), (LATER + timedelta(minutes=5), "open")]
)
def test_what_counts_is_when_the_step_failed_however_long_its_run_went_on(
    engine: Engine, stage: Stage, failed: datetime, state: str
) -> None:
    broke(engine, stage, stage.finding())
    used(stage, LATER)
    look(engine, stage)
    told = stage.finding(findings.run(42, started_at=FAILED, finished_at=LATER + timedelta(hours=3)))
    assert told.evidence.record is not None
    step = replace(told.evidence.record, finished_at=failed)
    told = replace(told, evidence=replace(told.evidence, record=step))
    tag = plan.incident_tag(stage.organisation.url, plan.incident_key(told))
    record.finding(engine, told, tag=tag, title="", fingerprint="", policy=PROMPT)
    incident = the_incident(engine)
    assert (incident.state, incident.run_count) == (state, 2)


def test_the_same_run_run_again_and_failing_again_opens_its_item_again(engine: Engine, stage: Stage) -> None:
    broke(engine, stage, stage.finding())
    used(stage, LATER)
    look(engine, stage)
    broke(engine, stage, stage.finding(findings.run(41, finished_at=LATER + timedelta(hours=1))))
    assert the_item(stage)["fields"]["System.State"] == "Active"
    assert stage.project.build_tags[41] == ["expired-credential"]


def test_an_item_that_stayed_open_hears_that_the_same_run_fails_again(engine: Engine, stage: Stage) -> None:
    """Where the policy is to comment alone, nothing but its tag shows that it was over."""
    comment = replace(PROMPT, work_item_after="comment")
    broke(engine, stage, stage.finding(), comment)
    for hours in (1, 3):
        used(stage, FAILED + timedelta(hours=hours))
        look(engine, stage, comment)
        assert "credential-renewed" in the_item(stage)["fields"]["System.Tags"]
        again = findings.run(41, finished_at=FAILED + timedelta(hours=hours + 1))
        broke(engine, stage, stage.finding(again), comment)
        item = the_item(stage)
        assert "credential-renewed" not in item["fields"]["System.Tags"]
        assert "It fails again" in said(stage, item["id"])[-1]


def test_a_run_that_fails_again_in_a_later_incident_is_marked_anew(engine: Engine, stage: Stage) -> None:
    never = replace(PROMPT, reopen_within=timedelta(0))
    for hours in (0, 2):
        run = findings.run(41, finished_at=FAILED + timedelta(hours=hours))
        broke(engine, stage, stage.finding(run), never)
        assert stage.project.build_tags[41] == ["expired-credential"]
        used(stage, FAILED + timedelta(hours=hours + 1))
        assert look(engine, stage, never) == "Looked at 1 open incident; 1 are over."
        assert stage.project.build_tags[41] == ["credential-renewed"]


def test_the_run_that_fails_again_is_told_of_whichever_it_is(engine: Engine, stage: Stage) -> None:
    for number in (41, 42):
        broke(engine, stage, stage.finding(findings.run(number)))
    used(stage, LATER)
    look(engine, stage)
    for number, minutes in ((41, 10), (42, 20)):  # the second once its item is open again
        again = findings.run(number, finished_at=LATER + timedelta(minutes=minutes))
        broke(engine, stage, stage.finding(again))
        assert stage.project.build_tags[number] == ["expired-credential"]
    assert the_incident(engine).run_count == 2


def test_an_item_that_triage_closed_is_none_that_a_person_closed(engine: Engine, stage: Stage) -> None:
    broke(engine, stage, stage.finding())
    used(stage, LATER)
    look(engine, stage)
    again = stage.finding(findings.run(42, finished_at=LATER + timedelta(minutes=10)))
    tag = plan.incident_tag(stage.organisation.url, plan.incident_key(again))
    record.finding(engine, again, tag=tag, title="", fingerprint="", policy=PROMPT)
    job = jobs.claim(engine, "one")
    assert job is not None
    assert jobs.retry(engine, job, "Azure DevOps is away.")
    assert "0 are over" in look(engine, stage), "its item is still to be opened again"


def test_what_failed_while_the_run_that_shows_it_works_went_on_is_news(engine: Engine, stage: Stage) -> None:
    broke(engine, stage, stage.finding())
    used(stage, LATER)
    stage.project.uses[findings.CONNECTION][0]["startTime"] = wire_time(LATER - timedelta(minutes=10))
    look(engine, stage)
    broke(engine, stage, stage.finding(findings.run(42, finished_at=LATER - timedelta(minutes=5))))
    assert the_item(stage)["fields"]["System.State"] == "Active"


def test_an_item_that_a_person_closed_is_not_opened_again(engine: Engine, stage: Stage) -> None:
    broke(engine, stage, stage.finding(findings.pull_request_run()))
    the_item(stage)["fields"] |= {"System.State": "Closed", "System.ChangedDate": wire_time(LATER)}
    look(engine, stage)
    (thread,) = stage.threads
    assert "works again" not in thread["comments"][0]["content"], "nothing shows that it does"
    broke(engine, stage, stage.finding(findings.run(42, finished_at=LATER + timedelta(hours=1))))
    item = the_item(stage)
    assert item["fields"]["System.State"] == "Closed"
    assert "still breaks runs" in said(stage, item["id"])[-1]


def test_an_incident_in_a_digest_is_not_told_without_end(engine: Engine, stage: Stage) -> None:
    daily = replace(PROMPT, items_per_project_hour=1, repeat_interval=timedelta(0))
    other = findings.connection(id="b460b0f8-0000-4000-8000-000000000009", name="arm-9")
    attribution = replace(findings.finding().attribution, connection=other)
    broke(engine, stage, stage.finding(findings.run(42), attribution=attribution), daily)
    broke(engine, stage, stage.finding(), daily)
    broke(engine, stage, stage.finding(findings.run(43)), daily)
    job = jobs.claim(engine, "one")
    assert job is None


@pytest.mark.parametrize("has_room", [True, False])
def test_what_goes_on_the_day_after_its_digest_gets_an_item_of_its_own(
    engine: Engine, stage: Stage, *, has_room: bool
) -> None:
    thrifty = replace(PROMPT, items_per_project_hour=1)
    other = findings.connection(id="b460b0f8-0000-4000-8000-000000000009", name="arm-9")
    attribution = replace(findings.finding().attribution, connection=other)
    broke(engine, stage, stage.finding(findings.run(42), attribution=attribution), thrifty)
    broke(engine, stage, stage.finding(), thrifty)
    digest = max(stage.project.work_items)
    yesterday = db.now() - timedelta(days=1)
    with Session(engine) as session, session.begin():
        session.exec(update(Incident).values(item_at=yesterday))
        if has_room:
            session.exec(update(db.Effect).values(intended_at=yesterday))
    for number in (43, 44):
        broke(engine, stage, stage.finding(findings.run(number, pipeline_id=number)), thrifty)
    numbers = sorted(stage.project.work_items)
    with Session(engine) as session:
        incident = session.exec(select(Incident).where(Incident.connection_id == findings.CONNECTION)).one()
        checks = select(db.Job).where(db.Job.kind == "merge", db.Job.incident_id == incident.id)
        looks_for_doubles = session.exec(checks).all()
    assert bool(looks_for_doubles) == has_room, "a digest is no double of what its incidents have"
    if not has_room:
        assert (len(numbers), incident.work_item) == (2, digest)
        return
    assert (len(numbers), incident.work_item) == (3, numbers[2])
    item = stage.project.work_items[numbers[2]]
    assert f"[work item {digest}]" in item["fields"]["Microsoft.VSTS.TCM.ReproSteps"]
    linked = {each["url"][-2:] for each in item["relations"] if each["rel"] == "ArtifactLink"}
    assert linked == {"41", "43", "44"}, "all that it broke, from the start, and told of what comes"
    used(stage, LATER)
    look(engine, stage, thrifty)
    states = [stage.project.work_items[number]["fields"]["System.State"] for number in numbers]
    assert states == ["New", "New", "Closed"], "its own is closed, the digest is not"


def test_an_incident_that_left_its_digest_does_so_once(engine: Engine, stage: Stage) -> None:
    thrifty = replace(PROMPT, items_per_project_hour=1)
    other = findings.connection(id="b460b0f8-0000-4000-8000-000000000009", name="arm-9")
    attribution = replace(findings.finding().attribution, connection=other)
    broke(engine, stage, stage.finding(findings.run(42), attribution=attribution), thrifty)
    broke(engine, stage, stage.finding(), thrifty)
    yesterday = db.now() - timedelta(days=1)
    with Session(engine) as session, session.begin():
        session.exec(update(Incident).values(item_at=yesterday))
        session.exec(update(db.Effect).values(intended_at=yesterday))
    of_it = select(Incident).where(Incident.connection_id == findings.CONNECTION)
    with Session(engine, expire_on_commit=False) as session:
        before = session.exec(of_it).one()
    broke(engine, stage, stage.finding(findings.run(43)), thrifty)
    own = max(stage.project.work_items)
    with Session(engine) as session, session.begin():  # as a crash after the filing leaves it
        kept = {"work_item", "work_item_url", "item_at", "item_count", "item_finding", "told_finding"}
        session.exec(
            update(Incident).where(Incident.id == before.id).values(**before.model_dump(include=kept))  # type: ignore[arg-type]
        )
    broke(engine, stage, stage.finding(findings.run(44)), thrifty)
    assert max(stage.project.work_items) == own
    with Session(engine) as session:
        assert session.exec(of_it).one().work_item == own


def test_one_incident_that_cannot_be_looked_at_holds_up_no_other(engine: Engine, stage: Stage) -> None:
    other = findings.connection(id="b460b0f8-0000-4000-8000-000000000009", name="arm-9")
    attribution = replace(findings.finding().attribution, connection=other)
    broke(engine, stage, stage.finding(findings.run(42), attribution=attribution))
    broke(engine, stage, stage.finding())
    used(stage, LATER)
    stage.organisation.faults.append(Fault("GET", f"{other.id}/executionhistory", times=9, status=500))
    assert look(engine, stage) == "Looked at 2 open incidents; 1 are over."


def test_a_run_that_began_before_the_failure_proves_nothing(engine: Engine, stage: Stage) -> None:
    broke(engine, stage, stage.finding())
    used(stage, LATER)
    stage.project.uses[findings.CONNECTION][0]["startTime"] = wire_time(FAILED - timedelta(minutes=1))
    assert "0 are over" in look(engine, stage)


def ended_in_part(engine: Engine, stage: Stage) -> None:
    """Leave what a worker leaves that is killed when it has closed the work item, and no more."""
    row = the_incident(engine)
    assert row.id is not None
    assert record.begin_end(engine, row.id, row.last_failed_at) is not None
    act = acts.EndWorkItem(row.project_id, row.work_item or 0, "Run 43 has passed.")
    tell.carry_out(stage.door, engine, PROMPT, row.id, act, worker="killed/1")


def test_what_a_crash_left_ended_in_part_is_no_person_s_doing(engine: Engine, stage: Stage) -> None:
    broke(engine, stage, stage.finding())
    ended_in_part(engine, stage)
    used(stage, LATER)
    used(stage, LATER + timedelta(hours=1), "failed")  # of something else, so that nothing is proven any more
    assert look(engine, stage) == "Looked at 1 open incident; 1 are over."
    incident = the_incident(engine)
    assert (incident.state, incident.closed_by_person) == ("closed", False)
    assert len(said(stage, the_item(stage)["id"])) == 1


@pytest.mark.parametrize("is_telling", [False, True])
def test_what_a_crash_left_ended_in_part_is_looked_at_though_its_people_are_to_be_told(
    engine: Engine,
    stage: Stage,
    is_telling: bool,  # noqa: FBT001
) -> None:
    """The telling waits for the end; where no round looks (every_seconds = 0) both would wait for ever."""
    broke(engine, stage, stage.finding())
    ended_in_part(engine, stage)
    again = findings.run(44, finished_at=FAILED - timedelta(minutes=1))
    tag = the_incident(engine).tag
    record.finding(engine, stage.finding(again), tag=tag, title="", fingerprint="", policy=PROMPT)
    used(stage, LATER)
    if is_telling:
        assert jobs.claim(engine, "one") is not None
    changed = db.Job(key=f"connection:{findings.CONNECTION}@1", kind="connection", lease="other/1")
    assert mend.look_at(stage.door, engine, PROMPT, changed) == "Looked at 1 open incident; 1 are over."
    assert the_incident(engine).state == "closed"


def test_a_telling_that_is_tried_again_says_nothing_while_the_incident_is_being_ended(
    engine: Engine, stage: Stage
) -> None:
    broke(engine, stage, stage.finding())
    tag = the_incident(engine).tag
    again = stage.finding(findings.run(42, pipeline_id=8))
    record.finding(engine, again, tag=tag, title="", fingerprint="", policy=PROMPT)
    row = the_incident(engine)
    job = jobs.claim(engine, "one")
    assert job is not None
    record.begin_telling(engine, row.id or 0, 1)  # and no further
    assert jobs.snooze(engine, job, 0, "broken off")
    about_to_end, go_on = threading.Event(), threading.Event()

    def pause(_: Session) -> None:
        if threading.current_thread().name == "ending":
            about_to_end.set()
            go_on.wait(10)

    def end() -> None:
        assert record.begin_end(engine, row.id or 0, row.last_failed_at) is not None

    def tell_again() -> str:
        job = jobs.claim(engine, "one")  # once it was seen that nobody is being told
        assert job is not None
        return tell.incident(stage.door, engine, PROMPT, "http://127.0.0.1:8080", job)

    event.listen(Session, "before_commit", pause)
    try:
        ending = threading.Thread(target=end, name="ending")
        ending.start()
        assert about_to_end.wait(10)
        with ThreadPoolExecutor(1) as pool:
            telling = pool.submit(tell_again)
            wait([telling], timeout=1)
            go_on.set()
            with pytest.raises(Snooze, match="just being ended"):
                telling.result()
        ending.join()
    finally:
        go_on.set()
        event.remove(Session, "before_commit", pause)


def test_what_failed_again_since_a_crash_is_opened_again(engine: Engine, stage: Stage) -> None:
    broke(engine, stage, stage.finding())
    ended_in_part(engine, stage)
    again = findings.run(44, finished_at=FAILED + timedelta(minutes=1))  # read only now
    tag = the_incident(engine).tag
    record.finding(engine, stage.finding(again), tag=tag, title="", fingerprint="", policy=PROMPT)
    with Session(engine) as session, session.begin():  # the telling waits for the end
        session.exec(update(db.Job).values(available_at=db.now() + timedelta(minutes=1)))
    assert look(engine, stage) == "Looked at 1 open incident; 0 are over."
    incident = the_incident(engine)
    assert (incident.state, incident.reopened_at is not None) == ("open", True)
    job = jobs.claim(engine, "one")
    assert job is not None
    tell.incident(stage.door, engine, PROMPT, "http://127.0.0.1:8080", job)
    item = the_item(stage)
    assert item["fields"]["System.State"] != "Closed"
    assert "It fails again" in said(stage, item["id"])[-1]
