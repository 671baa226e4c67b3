"""The whole story over a Service Bus: Azure DevOps posts into a queue, `triage serve` does the rest."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tests.intake.bus.conftest import until
from tests.test_cli import PROGRAM, ROOT
from triage.sandbox import hooks, stories
from triage.sandbox.bus import Broker, Queue
from triage.sandbox.organisation import Organisation
from triage.sandbox.server import serve

if TYPE_CHECKING:
    from pathlib import Path


def test_an_event_in_a_queue_ends_in_a_work_item_and_serve_stops_when_told_to(tmp_path: Path) -> None:
    (story,) = (each for each in stories.load() if each.name == "acr-automatic-connection")
    organisation, queue = Organisation("contoso"), Queue("triage")
    with serve(organisation, token="played-token") as played, Broker(queue) as broker:
        for bypass in (False, True):
            organisation.subscribe_queue(
                broker.connection_string, "triage", event_type="build.complete", bypass_serializer=bypass
            )
        settings = {
            "TRIAGE_AZURE_DEVOPS__URL": played.url,
            "TRIAGE_AZURE_DEVOPS__TOKEN": "played-token",
            "TRIAGE_DATABASE__URL": f"sqlite:///{tmp_path}/triage.db",
            "TRIAGE_HOOK__PASSWORD": "open sesame",
            "TRIAGE_POLICY__SETTLE_SECONDS": "0.2",
            "TRIAGE_POLICY__GROUP_WAIT_SECONDS": "0",
            "TRIAGE_SERVICE_BUS__CONNECTION_STRING": broker.connection_string,
            "TRIAGE_SERVICE_BUS__FORWARD": "true",
        }
        serving = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "serve", "--port", "0"],
            env={**os.environ, **settings, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
        )
        try:
            story.set_up(organisation)
            story.play(organisation, lambda event: hooks.deliver(organisation, event))
            project = organisation.projects[story.project_id]
            until(lambda: project.work_items and queue.counted["complete"] == 2, 60)
            told = time.monotonic()
            serving.terminate()
            _, said = serving.communicate(timeout=30)
        finally:
            serving.kill()
        assert serving.returncode == 0
        assert time.monotonic() - told < 10
        assert len(project.work_items) == 1, "told in both forms, it is one job"
        assert broker.key.encode() not in said
