"""Every scenario, played from the hook to the work item, ends as its file says, on each kind of database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.databases import rows
from triage import demo
from triage.sandbox import stories

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STORIES = stories.load()


@pytest.fixture
def stage(tmp_path: Path, database_url: str) -> Iterator[demo.Stage]:
    """Every scenario played once, in one organisation."""
    with demo.stage(tmp_path, database_url=database_url) as stage:
        stage.play(STORIES)
        yield stage


def test_every_scenario_ends_as_its_file_says(stage: demo.Stage, tmp_path: Path) -> None:
    """One test for all, and for what holds of them together: playing them takes long."""
    ended = {story.name: stories.check(story, stage.organisation, stage.view) for story in STORIES}
    assert {name: differences for name, differences in ended.items() if differences} == {}
    refused = [entry for entry in stage.organisation.ledger if entry["status"] >= 400]
    assert refused == []
    files = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file()).decode("latin-1")
    sent = "\n".join(str(entry["body"]) for entry in stage.organisation.ledger)
    for secret in (stage.settings.azure_devops.token, stage.settings.hook.password):
        assert secret is not None
        for where, text in {"rows": rows(stage.engine), "files": files, "sent": sent}.items():
            assert secret.get_secret_value() not in text, where
