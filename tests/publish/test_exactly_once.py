"""Two workers, crashes and lost replies: still one work item that knows every pipeline."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests import findings
from tests.publish.conftest import POLICY, Stage
from triage import azdo, match, plan, publish, record, renewal, worker
from triage.errors import RetryLater, Snooze
from triage.owner import Fallback
from triage.sandbox.organisation import Fault

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from triage.domain import Finding


@pytest.fixture
def known() -> worker.Knowledge:
    return worker.Knowledge(
        pack=match.load_pack(),
        recipes=renewal.load(),
        owners=None,
        fallback=Fallback(team=None, area=None, assignee=None),
        policy=POLICY,
        pages_url="http://127.0.0.1:8080",
    )


def recorded(engine: Engine, stage: Stage, finding: Finding) -> record.Recorded:
    key = plan.incident_key(finding)
    tag = plan.incident_tag(stage.organisation.url, key)
    return record.finding(engine, finding, key=key, tag=tag, title=publish.title(finding))


def test_a_worker_that_finds_the_item_filed_meanwhile_still_links_its_run(
    engine: Engine, known: worker.Knowledge, stage: Stage
) -> None:
    here = stage.finding()
    there = stage.finding(findings.run(42, pipeline_id=8, pipeline_name="shop-test"))
    seen_here, seen_there = recorded(engine, stage, here), recorded(engine, stage, there)
    worker._act(stage.door, engine, known, here, seen_here, worker="one")
    worker._act(stage.door, engine, known, there, seen_there, worker="two")
    (item,) = stage.project.work_items.values()
    linked = {each["url"] for each in item["relations"] if each["rel"] == "ArtifactLink"}
    assert linked == {"vstfs:///Build/Build/41", "vstfs:///Build/Build/42"}


@pytest.mark.parametrize(
    "path", [r"/tags/", r"/wit/workitems/\$", r"/threads$"], ids=["tag", "work item", "thread"]
)
@pytest.mark.parametrize("lose_reply", [True, False], ids=["reply lost", "refused"])
def test_a_run_tried_again_after_a_fault_leaves_one_of_each(
    engine: Engine,
    known: worker.Knowledge,
    stage: Stage,
    path: str,
    lose_reply: bool,  # noqa: FBT001
) -> None:
    finding = stage.finding(findings.pull_request_run())
    for method in ("POST", "PUT"):
        fault = Fault(method, path, status=None if lose_reply else 500, lose_reply=lose_reply)
        stage.organisation.faults.append(fault)
    with pytest.raises(RetryLater):
        worker._act(stage.door, engine, known, finding, recorded(engine, stage, finding), worker="one")
    for _ in range(3):
        worker._act(stage.door, engine, known, finding, recorded(engine, stage, finding), worker="two")
    assert stage.project.build_tags[41] == ["expired-credential"]
    assert len(stage.project.work_items) == 1
    (thread,) = stage.threads
    (number,) = stage.project.work_items
    assert f"/_workitems/edit/{number}" in thread["comments"][0]["content"]


def test_two_runs_of_a_pull_request_at_once_leave_one_thread(
    engine: Engine, known: worker.Knowledge, stage: Stage
) -> None:
    runs = [stage.finding(findings.pull_request_run(number)) for number in (41, 42)]
    seen = [recorded(engine, stage, finding) for finding in runs]
    stage.organisation.faults.append(Fault("GET", "/threads$", delay_seconds=0.5))
    later: list[Snooze] = []

    def act(number: int) -> None:
        door = azdo.connect(stage.organisation.url, "played")
        for _ in range(20):
            try:
                worker._act(door, engine, known, runs[number], seen[number], worker=f"worker-{number}")
            except Snooze as busy:
                later.append(busy)
                time.sleep(0.1)
            else:
                return

    threads = [threading.Thread(target=act, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert later
    assert len(stage.threads) == 1
    assert len(stage.project.work_items) == 1
