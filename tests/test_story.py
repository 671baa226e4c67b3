"""The whole story, over HTTP: an event in, one tag, one thread, one work item out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from triage import demo
from triage.sandbox import hooks, stories
from triage.sandbox.organisation import Fault

if TYPE_CHECKING:
    from pathlib import Path

STORIES = {story.name: story for story in stories.load()}


def test_there_are_at_least_fourteen_scenarios() -> None:
    assert len(STORIES) >= 14


def writes(stage: demo.Stage, project_id: str) -> list[dict[str, Any]]:
    """Return what triage wrote in a project and the service accepted."""
    return [
        entry
        for entry in stage.organisation.ledger
        if project_id in entry["path"].lower()
        and entry["status"] < 300
        and "wiql" not in entry["path"].lower()
    ]


@pytest.mark.parametrize("deliveries", [1, 50])
def test_one_run_gets_one_tag_one_thread_and_one_work_item(
    tmp_path: Path, database_url: str, deliveries: int
) -> None:
    story = STORIES["pull-request"]
    with demo.stage(tmp_path, database_url=database_url) as stage:
        story.set_up(stage.organisation)

        def fire(event: dict[str, Any]) -> None:
            for _ in range(deliveries):
                hooks.deliver(stage.organisation, event)

        story.play(stage.organisation, fire)
        stage.settle()
        project = stage.organisation.projects[story.project_id]
        assert stories.check(story, stage.organisation, stage.view) == []
        assert len(project.work_items) == 1
        assert [len(threads) for threads in project.threads.values()] == [1]
        assert [tags for tags in project.build_tags.values() if tags] == [["expired-credential"]]
        assert len(writes(stage, story.project_id)) == 3
        assert len(stage.view("/api/incidents")) == 1


def test_a_work_item_whose_creation_lost_its_reply_is_not_filed_twice(
    tmp_path: Path, database_url: str
) -> None:
    story = STORIES["acr-automatic-connection"]
    with demo.stage(tmp_path, database_url=database_url) as stage:
        stage.organisation.faults.append(Fault("POST", r"/wit/workitems/\$", lose_reply=True))
        story.set_up(stage.organisation)
        story.play(stage.organisation, lambda event: hooks.deliver(stage.organisation, event))
        stage.settle()
        assert len(stage.organisation.projects[story.project_id].work_items) == 1
        assert stories.check(story, stage.organisation, stage.view) == []
