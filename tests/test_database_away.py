"""PostgreSQL stops, hangs and comes back: the hook says so in time, and nothing is lost."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests
import structlog
from sqlmodel import Session, col, select, update

from tests import postgres
from triage import db, demo, jobs, worker
from triage.db import Effect, Job
from triage.sandbox import hooks, stories
from triage.web import hook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.databases import Databases

TOLD = ("pull-request", "acr-automatic-connection", "arm-automatic-secret")
STORIES = {story.name: story for story in stories.load() if story.name in TOLD}
QUICKER = 20  # so many times quicker than Azure DevOps sends again


@pytest.fixture
def server(databases: Databases) -> Iterator[postgres.Server]:
    """A server of this test's own, which keeps what it said it kept."""
    made = postgres.Server(databases.programs, durable=True)
    yield made
    made.close()


@pytest.fixture
def stage(server: postgres.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[demo.Stage]:
    monkeypatch.setattr(worker, "_AWAY_SECONDS", 0.2)
    with (
        structlog.testing.capture_logs(),
        demo.stage(tmp_path, workers=4, database_url=server.url(server.create())) as made,
    ):
        answers(made)
        yield made


def answers(stage: demo.Stage) -> None:
    """Wait until the web server listens."""
    for _ in range(600):
        try:
            requests.get(f"{stage.pages_url}/healthz", timeout=30)
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            return


def post(stage: demo.Stage) -> tuple[int, float]:
    """Send an event of no use. Returns the answer's status and how long it took."""
    password = stage.settings.hook.password
    assert password is not None
    login, begun = ("triage", password.get_secret_value()), time.monotonic()
    answer = requests.post(f"{stage.pages_url}/hooks/azure-devops", json={}, auth=login, timeout=30)
    return answer.status_code, time.monotonic() - begun


def let_leases_end(stage: demo.Stage) -> None:
    """Let time pass for what was begun before the database went away."""
    with Session(stage.engine) as session, session.begin():
        for table in (Job, Effect):
            held = col(table.lease).is_not(None)
            session.exec(update(table).where(held).values(lease_until=db.present(-1)))


def test_a_server_that_was_killed_and_comes_back_costs_nothing(
    stage: demo.Stage, server: postgres.Server
) -> None:
    for story in STORIES.values():
        story.set_up(stage.organisation)

    def play(story: stories.Story) -> None:
        story.play(stage.organisation, lambda event: deliver(stage, event))

    first, *others = STORIES.values()
    play(first)  # its jobs are being worked on when the server goes
    server.stop(signal.SIGQUIT)
    with ThreadPoolExecutor() as pool:
        playing = [pool.submit(play, story) for story in others]
        assert [post(stage)[0] for _ in range(5)] == [503] * 5
        health = requests.get(f"{stage.pages_url}/healthz", timeout=30)
        assert (health.status_code, health.json()) == (503, {"database": "away"})
        time.sleep(1)
        server.start()
        for each in playing:
            each.result(60)
    assert post(stage)[0] == 202
    time.sleep(1)  # the workers have noticed
    let_leases_end(stage)
    stage.settle()
    for story in STORIES.values():
        assert stories.check(story, stage.organisation, stage.view) == []
        assert len(stage.organisation.projects[story.project_id].work_items) == 1
    with Session(stage.engine) as session:
        due = select(Job).where(Job.kind != jobs.Kind.MERGE)  # that waits for the search index
        assert {job.state for job in session.exec(due)} == {"completed"}
    notes = [note for each in stage.organisation.notifications.values() for note in each]
    assert max(note["details"]["requestAttempts"] for note in notes) > 1
    assert {note["result"] for note in notes} == {"succeeded"}


def deliver(stage: demo.Stage, event: dict[str, Any]) -> None:
    hooks.deliver(stage.organisation, event, speed=QUICKER)


def test_a_server_that_hangs_does_not_hang_the_hook(
    stage: demo.Stage, server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "_STORE_SECONDS", 0.5)
    assert post(stage)[0] == 202
    stopped = server.every_pid()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(30) as pool:
            told = list(pool.map(lambda _: post(stage), range(30)))
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert {status for status, _ in told} == {503}
    assert max(seconds for _, seconds in told) < 5
    story = STORIES["arm-automatic-secret"]
    story.set_up(stage.organisation)
    story.play(stage.organisation, lambda event: deliver(stage, event))
    stage.settle()
    assert stories.check(story, stage.organisation, stage.view) == []
