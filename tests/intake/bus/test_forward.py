"""With service_bus.forward the hook answers 202 from the queue, else from the database, else 503."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

from tests.intake.bus.conftest import deliveries, failed, runs, settings_for, until
from tests.web.test_hook import HOOK, KNOWN
from triage import config, db, web
from triage.intake.bus import Bus, client, receive
from triage.sandbox.bus import Broker, Queue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine


@pytest.fixture
def settings(broker: Broker, queue: Queue) -> config.Settings:
    return settings_for(broker, queue, forward=True, receivers=1)


@contextmanager
def served(settings: config.Settings, engine: Engine, *, receive_from: Engine | None) -> Iterator[TestClient]:
    """Serve the hook on one database and receive into another, which may be away, or not at all."""
    with Bus(settings, receive_from or engine) as bus:
        until(lambda: bus.forwarder is not None and bus.forwarder.connected)
        yield TestClient(web.create_app(settings, engine, forward=bus.forward))


@pytest.fixture
def nowhere(tmp_path: Path) -> Engine:
    """Return a database that is away."""
    return db.open_engine(f"sqlite:///{tmp_path}/gone/triage.db")


def test_what_the_hook_receives_goes_over_the_queue_into_the_database(
    settings: config.Settings, engine: Engine, nowhere: Engine
) -> None:
    with served(settings, nowhere, receive_from=engine) as hook:
        answer = hook.post(HOOK, content=failed(), headers=KNOWN)
        assert (answer.status_code, answer.json()["outcome"]) == (202, "forwarded")
        until(lambda: runs(engine) == [42])
    assert [(row.outcome, row.source) for row in deliveries(engine)] == [("queued", "service-bus")]


def test_events_are_received_while_the_database_is_away(
    settings: config.Settings, queue: Queue, nowhere: Engine
) -> None:
    with served(settings, nowhere, receive_from=None) as hook, ThreadPoolExecutor(20) as pool:
        numbers = range(1, 201)
        answers = list(pool.map(lambda n: hook.post(HOOK, content=failed(n), headers=KNOWN), numbers))
    assert {answer.status_code for answer in answers} == {202}
    assert queue.counted["enqueued"] == 200
    assert len(queue.ready) == 200, "none is lost while nobody can store it"


@pytest.mark.parametrize("condition", ["com.microsoft:server-busy", "amqp:resource-limit-exceeded"])
def test_an_event_that_the_queue_refuses_goes_into_the_database(
    broker: Broker, settings: config.Settings, engine: Engine, condition: str
) -> None:
    with served(settings, engine, receive_from=None) as hook:
        broker.refuse_sends = condition
        answer = hook.post(HOOK, content=failed(), headers=KNOWN)
        assert (answer.status_code, answer.json()["outcome"]) == (202, "queued")
        broker.refuse_sends = ""
        until(lambda: hook.post(HOOK, content=failed(43), headers=KNOWN).json()["outcome"] == "forwarded")
        until(lambda: runs(engine) == [42, 43])


def test_a_connection_that_broke_unnoticed_loses_nothing(
    broker: Broker, settings: config.Settings, engine: Engine, nowhere: Engine
) -> None:
    with served(settings, nowhere, receive_from=engine) as hook:
        for number in (1, 2, 3):
            assert hook.post(HOOK, content=failed(number), headers=KNOWN).json()["outcome"] == "forwarded"
            broker.drop_connections()
        until(lambda: runs(engine) == [1, 2, 3])


def test_without_bus_and_database_the_sender_is_asked_to_come_again(
    settings: config.Settings, engine: Engine, nowhere: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive, "_BACKOFF_SECONDS", 0.1)
    queue = Queue("triage")
    own = Broker(queue)
    with own:
        away = settings_for(own, queue, forward=True)
    with Bus(away, engine) as bus:
        for database, status, outcome in ((nowhere, 503, None), (engine, 202, "queued")):
            hook = TestClient(web.create_app(away, database, forward=bus.forward))
            answer = hook.post(HOOK, content=failed(), headers=KNOWN)
            assert (answer.status_code, answer.json().get("outcome")) == (status, outcome)
        with own:  # it is back
            hook = TestClient(web.create_app(away, nowhere, forward=bus.forward))
            until(lambda: hook.post(HOOK, content=failed(2), headers=KNOWN).status_code == 202)
            until(lambda: runs(engine) == [2, 42])


def test_a_bus_that_says_nothing_does_not_hold_the_hook_up(
    broker: Broker, queue: Queue, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "TRY_SECONDS", 0.5)
    broker.is_mute = True
    with Bus(settings_for(broker, queue, forward=True), engine) as bus:
        hook = TestClient(web.create_app(bus.settings, engine, forward=bus.forward))
        assert hook.post(HOOK, content=failed(), headers=KNOWN).json()["outcome"] == "queued"


def test_what_is_no_event_and_what_is_too_large_stay_out_of_the_queue(
    settings: config.Settings, queue: Queue, engine: Engine
) -> None:
    settings.hook.max_body_bytes = 1024 * 1024
    large = failed(43, message={"text": "x" * 300_000})
    with served(settings, engine, receive_from=None) as hook:
        for body, outcome in ((b"no event", "refused"), (b"x" * 2_000_000, "refused"), (large, "queued")):
            assert hook.post(HOOK, content=body, headers=KNOWN).json()["outcome"] == outcome
    assert queue.counted["enqueued"] == 0
    assert Counter(row.source for row in deliveries(engine)) == {"hook": 3}


def test_a_stranger_reaches_no_queue(settings: config.Settings, queue: Queue, engine: Engine) -> None:
    with served(settings, engine, receive_from=None) as hook:
        assert hook.post(HOOK, content=failed()).status_code == 401
    assert queue.counted["enqueued"] == 0


def test_what_is_sent_is_what_the_hook_got(settings: config.Settings, queue: Queue, nowhere: Engine) -> None:
    with served(settings, nowhere, receive_from=None) as hook:
        hook.post(HOOK, content=failed(), headers=KNOWN)
    (message,) = queue.ready
    assert json.dumps(json.loads(failed())).encode() in message.content
    assert b"open sesame" not in message.content
