"""Messages become jobs, whatever breaks in between."""

from __future__ import annotations

import logging
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from sqlalchemy import event, text
from sqlmodel import Session, col, select

from tests.intake.bus.conftest import (
    deliveries,
    failed,
    put,
    receiving,
    runs,
    settings_for,
    until,
)
from triage import config, db
from triage.db import Job
from triage.intake.bus import Bus, client
from triage.sandbox import hooks
from triage.sandbox.bus import Broker, Queue
from triage.sandbox.organisation import Organisation

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from sqlalchemy.engine import Engine

    from triage.sandbox.bus.queues import Outcome

REFUSE = "CREATE TRIGGER refuse BEFORE INSERT ON delivery BEGIN SELECT RAISE(ABORT, 'not this one'); END"


def settled(queue: Queue) -> int:
    return queue.counted["complete"] + queue.counted["buried"]


def kept(engine: Engine) -> list[Job]:
    with Session(engine, expire_on_commit=False) as session:
        return list(session.exec(select(Job).order_by(col(Job.id))))


def execute(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def test_both_forms_that_azure_devops_posts_are_received(
    broker: Broker, queue: Queue, settings: config.Settings, engine: Engine
) -> None:
    organisation = Organisation("contoso")
    told = settings.model_copy(update={"azure_devops": config.AzureDevOps(url=organisation.url)})
    for bypass in (False, True):
        organisation.subscribe_queue(
            broker.connection_string, queue.name, event_type="build.complete", bypass_serializer=bypass
        )
    sample = {"id": "e", "eventType": "build.complete", "resource": {"id": 42, "result": "failed"}}
    project = {"project": {"id": "16dcfeeb-d8fd-495c-917b-fec46cb44fbb"}}
    assert hooks.deliver(organisation, sample | {"resourceContainers": project}) == [200, 200]
    wrapped, plain = (message.content for message in queue.ready)
    assert (b"@\x06string" in wrapped, b"@\x06string" in plain) == (True, False)
    with receiving(told, engine):
        until(lambda: settled(queue) == 2)
    assert runs(engine) == [42]
    assert {(row.outcome, row.source) for row in deliveries(engine)} == {
        ("queued", "service-bus"),
        ("duplicate", "service-bus"),
    }


def test_the_runs_of_a_storm_wait_for_each_other(
    broker: Broker, queue: Queue, settings: config.Settings, engine: Engine
) -> None:
    put(broker, queue, *(failed(run) for run in range(1, 61)))
    with receiving(settings, engine):
        until(lambda: settled(queue) == 60)
    waits = [(job.available_at - job.created_at).total_seconds() for job in kept(engine)]
    assert min(waits) < 0.1 < max(waits)


def test_fifty_copies_of_a_message_are_one_job(broker: Broker, queue: Queue, engine: Engine) -> None:
    queue.copies = 50
    put(broker, queue, failed())
    with receiving(settings_for(broker, queue, receivers=4), engine):
        until(lambda: queue.counted["complete"] == 50)
    assert runs(engine) == [42]
    assert Counter(row.outcome for row in deliveries(engine)) == {"queued": 1, "duplicate": 49}


def test_a_lock_lost_during_the_commit_is_one_job(
    broker: Broker, queue: Queue, settings: config.Settings, engine: Engine
) -> None:
    commits: list[object] = []

    def lose(_: object) -> None:
        commits.append(None)
        if len(commits) == 1:  # of the job and its delivery
            broker.lose_locks(queue.name)

    put(broker, queue, failed())
    event.listen(engine, "commit", lose)
    with receiving(settings, engine):
        until(lambda: queue.counted["complete"] == 1)
    assert queue.counted["lock lost"] == 1
    assert runs(engine) == [42]
    assert sorted(row.outcome for row in deliveries(engine)) == ["duplicate", "queued"]


def test_a_message_that_cannot_be_stored_is_abandoned_and_comes_again(
    broker: Broker, queue: Queue, settings: config.Settings, engine: Engine
) -> None:
    execute(engine, REFUSE)
    put(broker, queue, failed())
    with receiving(settings, engine):
        until(lambda: queue.counted["abandon"] >= 2)
        execute(engine, "DROP TRIGGER refuse")
        until(lambda: queue.counted["complete"] == 1)
    assert runs(engine) == [42]
    assert not queue.counted["buried"]


def test_ten_deliveries_that_fail_end_among_the_dead_letters(
    broker: Broker, queue: Queue, settings: config.Settings, engine: Engine
) -> None:
    execute(engine, REFUSE)
    put(broker, queue, failed())
    with receiving(settings, engine):
        until(lambda: queue.counted["buried"] == 1)
        execute(engine, "DROP TRIGGER refuse")
        put(broker, queue, failed(43))
        until(lambda: queue.counted["complete"] == 1)
    assert queue.counted["abandon"] == 10
    assert queue.dead_letters is not None
    (dead,) = queue.dead_letters.ready
    assert dead.dead_letter["DeadLetterReason"] == "MaxDeliveryCountExceeded"
    assert 43 in runs(engine), "the next message is not held up"


NO_EVENTS = {
    b"\x00\xff\xfe binary": "The body is not JSON",
    b"<html>502 Bad Gateway</html>": "The body is not JSON",
    b"[1, 2]": "a JSON object was expected",
    b"{}": "The event names no eventType",
    failed(resource={"result": "failed"}, resourceContainers={}): "names no project or run",
    b'{"x": "' + b"x" * 9000 + b'"}': "too large",
}


def test_what_is_no_event_ends_among_the_dead_letters_with_its_reason(
    broker: Broker, queue: Queue, settings: config.Settings, engine: Engine
) -> None:
    settings.hook.max_body_bytes = 9000
    settings.service_bus.receivers = 1  # in their order
    put(broker, queue, *NO_EVENTS)
    with receiving(settings, engine):
        until(lambda: queue.counted["buried"] == len(NO_EVENTS))
    assert queue.dead_letters is not None
    told = [message.dead_letter for message in queue.dead_letters.ready]
    assert {each["DeadLetterReason"] for each in told} == {"Not an event of Azure DevOps"}
    for why, each in zip(NO_EVENTS.values(), told, strict=True):
        assert why in each["DeadLetterErrorDescription"]
    assert {row.outcome for row in deliveries(engine)} == {"refused"}
    assert not runs(engine)


def test_a_bus_that_restarts_is_found_again(engine: Engine) -> None:
    queue = Queue("triage")
    broker = Broker(queue)
    with broker:
        settings = settings_for(broker, queue)
        put(broker, queue, failed(1))
        bus = Bus(settings, engine)
        bus.__enter__()
        until(lambda: runs(engine) == [1])
    put(broker, queue, failed(2))
    until(lambda: not bus.state().connected and "does not answer" in bus.state().problem)
    with broker:
        until(lambda: runs(engine) == [1, 2])
        broker.drop_connections()
        put(broker, queue, failed(3))
        until(lambda: runs(engine) == [1, 2, 3])
        until(lambda: bus.state().connected and not bus.state().problem)
        state = bus.state()
        bus.__exit__()
    assert state.received_at is not None
    assert state.received_at <= datetime.now(UTC)


def test_a_database_that_is_away_keeps_messages_in_the_bus(broker: Broker, tmp_path: Path) -> None:
    queue = broker.add(Queue("away", lock_seconds=1.0, max_deliveries=3))
    (tmp_path / "there").mkdir()
    engine = db.open_engine(f"sqlite:///{tmp_path}/there/triage.db")
    db.migrate(engine)
    engine.dispose()
    (tmp_path / "there").rename(tmp_path / "gone")
    with receiving(settings_for(broker, queue), engine):
        put(broker, queue, *(failed(run) for run in range(1, 21)))
        until(lambda: queue.counted["renew"] > 5)
        time.sleep(2 * queue.lock_seconds)
        assert not queue.counted["lock lost"], "those in hand are kept"
        for _ in range(4):
            broker.lose_locks(queue.name)
            time.sleep(0.4)
        assert queue.counted["lock lost"] <= 2, "one each; nothing is fetched to be failed again"
        (tmp_path / "gone").rename(tmp_path / "there")
        until(lambda: queue.counted["complete"] == 20)
    assert runs(engine) == list(range(1, 21))
    assert not queue.counted["abandon"], "waiting for the database is no failed delivery"
    assert not queue.counted["buried"]
    engine.dispose()


def test_a_message_in_hand_is_given_back_when_told_to_stop(
    broker: Broker, queue: Queue, settings: config.Settings, tmp_path: Path
) -> None:
    settings.service_bus.receivers = 1
    put(broker, queue, failed())
    with receiving(settings, db.open_engine(f"sqlite:///{tmp_path}/gone/triage.db")):
        until(lambda: queue.counted["renew"])
    assert [message.deliveries for message in queue.ready] == [1]


def test_a_bus_that_says_nothing_does_not_keep_triage_from_stopping(
    broker: Broker, queue: Queue, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "TRY_SECONDS", 0.5)
    broker.is_mute = True
    with receiving(settings_for(broker, queue), engine) as bus:
        until(lambda: "does not answer" in bus.state().problem)


def test_a_settlement_that_is_never_answered_is_given_up(
    broker: Broker, queue: Queue, settings: config.Settings, engine: Engine
) -> None:
    said: list[Outcome] = []

    def swallow(_: str, outcome: Outcome) -> bool:
        said.append(outcome)
        return len(said) > 1

    broker.before_settle = swallow
    put(broker, queue, failed())
    with receiving(settings, engine):
        until(lambda: said)
        broker.drop_connections()
        broker.lose_locks(queue.name)
        until(lambda: queue.counted["complete"] == 1)
    assert runs(engine) == [42]


def test_what_the_bus_refuses_is_told_with_the_next_step(
    broker: Broker, queue: Queue, engine: Engine
) -> None:
    wrong, missing = settings_for(broker, queue), settings_for(broker, Queue("missing"))
    wrong.service_bus.connection_string = SecretStr(broker.connection_string.replace(broker.key, "d3Jvbmc"))
    with (
        Bus(wrong, engine) as refused,
        Bus(missing, engine) as lost,
    ):
        until(lambda: "refuses service_bus.connection_string" in refused.state().problem)
        until(lambda: "has no queue missing: create it" in lost.state().problem)
        assert not lost.state().connected


def test_dead_letters_are_counted(
    broker: Broker, queue: Queue, settings: config.Settings, engine: Engine
) -> None:
    assert queue.dead_letters is not None
    put(broker, queue.dead_letters, b"one", b"two")
    with receiving(settings, engine) as bus:
        until(lambda: bus.state().dead_letters == 2)


def test_neither_body_nor_key_nor_token_is_logged(
    broker: Broker,
    queue: Queue,
    settings: config.Settings,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    logged: list[Any],
) -> None:
    caplog.set_level(logging.DEBUG)
    put(broker, queue, failed(message={"text": "a body"}), b"a body that is no event")
    with receiving(settings, engine):
        until(lambda: settled(queue) == 2)
        broker.drop_connections()
        put(broker, queue, failed(43))
        until(lambda: settled(queue) == 3)
    said = caplog.text + str(logged) + "".join(capfd.readouterr())
    assert {"dead-lettered", "received"} <= {entry["event"] for entry in logged}
    assert not [each for each in caplog.records if each.name.startswith("azure.servicebus")]
    for secret in (broker.key, "SharedAccess", "sig=", "a body"):
        assert secret not in said


def test_without_a_service_bus_nothing_runs(engine: Engine) -> None:
    with Bus(config.Settings(), engine) as bus:
        assert bus.threads == []
        assert not bus.state().used
