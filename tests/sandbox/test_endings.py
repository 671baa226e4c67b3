"""Every scenario, played from the hook to the work item, ends as its file says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from triage import demo
from triage.sandbox import hooks, stories

if TYPE_CHECKING:
    from collections.abc import Iterator

STORIES = stories.load()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[demo.Stage]:
    with demo.stage(tmp_path_factory.mktemp("stage")) as stage:
        for story in STORIES:
            story.set_up(stage.organisation)
            story.play(stage.organisation, lambda event: hooks.deliver(stage.organisation, event))
        stage.settle()
        yield stage


@pytest.mark.parametrize("story", STORIES, ids=lambda each: each.name)
def test_a_scenario_ends_as_its_file_says(stage: demo.Stage, story: stories.Story) -> None:
    assert stories.check(story, stage.organisation, stage.view) == []


def test_nothing_that_triage_asked_was_refused(stage: demo.Stage) -> None:
    refused = [entry for entry in stage.organisation.ledger if entry["status"] >= 400]
    assert refused == []
