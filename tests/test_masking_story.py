"""Secrets of every kind in the logs of failed runs, and a look into everything that triage leaves behind."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import requests
import structlog

from tests.databases import rows
from tests.match import leaks, planted
from triage import demo
from triage.sandbox import hooks, stories
from triage.sandbox.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIGNATURE = "AADSTS7000222: The provided client secret keys for app '***' are expired. "
STEPS = 6
ENCODINGS = ["plain", "URL", "JSON", "base64", "colours"]


def secrets() -> list[tuple[planted.Secret, str]]:
    """Return a secret of each kind and a line that holds it."""
    chance = Random("story")
    made = []
    for number, kind in enumerate(planted.KINDS):
        secret = kind.make(chance)
        line = chance.choice(kind.lines).format(secret.text)
        made.append((secret, planted.ENCODINGS[ENCODINGS[number % len(ENCODINGS)]](line)))
    return made


def scenario(lines: list[str]) -> Scenario:
    """Return failed runs of a few steps; each line stands beside a signature and among other output."""
    runs = [
        {
            "pipeline": f"deploy-{first}",
            "pull_request": {"id": 1000 + first} if first % 3 == 0 else None,
            "steps": [
                {
                    "task": "AzureCLI@2",
                    "name": f"Deploy part {number}",
                    "inputs": {"azureSubscription": "prod"},
                    "output": [line],
                    "errors": [SIGNATURE + line],
                    "continue_on_error": True,
                }
                for number, line in enumerate(lines[first : first + STEPS])
            ],
        }
        for first in range(0, len(lines), STEPS)
    ]
    told = {
        "name": "secrets", "title": "Logs full of secrets", "story": "None of them may be kept.",
        "project": {"name": "Secrets"}, "connections": [{"name": "prod", "creation": "Manual"}],
        "runs": runs, "expected": {},
    }  # fmt: skip
    return Scenario.model_validate(told)


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def pages(stage: demo.Stage) -> Iterator[str]:
    """Return every page and every answer of the API, as text."""
    paths = ["/", "/deliveries", "/api/incidents", "/api/runs", "/api/deliveries"]
    paths += [f"{way}/incidents/{one['id']}" for one in stage.view("/api/incidents") for way in ("", "/api")]
    builds = [number for project in stage.organisation.projects.values() for number in project.builds]
    paths += [f"{way}/runs/Secrets/{number}" for number in builds for way in ("", "/api")]
    for path in paths:
        answer = requests.get(stage.pages_url + path, timeout=30)
        assert answer.ok, path
        yield answer.text


def test_no_secret_of_a_log_is_kept_shown_sent_or_logged(
    tmp_path: Path, database_url: str, logged: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    planted_here = secrets()
    parts = [secret.part for secret, _ in planted_here]
    story = stories.Story(scenario([line for _, line in planted_here]))
    with demo.stage(tmp_path, workers=4, database_url=database_url) as stage:
        story.set_up(stage.organisation)
        story.play(stage.organisation, lambda event: hooks.deliver(stage.organisation, event))
        stage.settle()
        [incident] = stage.view("/api/incidents")
        project = stage.organisation.projects[story.project_id]
        played = [
            project.work_items,
            project.comments,
            project.threads,
            project.statuses,
            project.build_properties,
        ]
        left = {
            "tables": rows(stage.engine),
            "pages": "\n".join(pages(stage)),
            "work items, comments, threads": "\n".join(map(str, played)),
            "requests": "\n".join(str(entry["body"]) for entry in stage.organisation.ledger),
            "log": json.dumps(logged, default=str),
        }
        kept = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    left["printed"] = "".join(capfd.readouterr())
    left["files"] = kept.decode("latin-1")
    assert "AADSTS7000222" in left["tables"]
    assert "AADSTS7000222" in left["pages"]
    assert "AADSTS7000222" in left["requests"]
    assert incident["runs"] == -(-len(parts) // STEPS)
    assert {where: seen for where, text in left.items() if (seen := leaks.any_seen(parts, text))} == {}
