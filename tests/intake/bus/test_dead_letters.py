"""`triage bus dead-letters`: shown without their bodies, and replayed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from tests.intake.bus.conftest import ORGANIZATION, failed, receiving, runs, until
from triage.cli import cli
from triage.sandbox.bus import Broker, Message, Queue
from triage.sandbox.bus.codec import encode, section
from triage.sandbox.bus.wire import DATA, VALUE

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from triage import config

PROJECT = json.loads(failed())["resource"]["project"]["id"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, broker: Broker, queue: Queue) -> None:
    monkeypatch.setenv("TRIAGE_AZURE_DEVOPS__URL", ORGANIZATION)
    monkeypatch.setenv("TRIAGE_SERVICE_BUS__CONNECTION_STRING", broker.connection_string)
    monkeypatch.setenv("TRIAGE_SERVICE_BUS__QUEUE", queue.name)


def dead_letters(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["bus", "dead-letters", *arguments])


@pytest.fixture
def buried(broker: Broker, queue: Queue) -> Queue:
    """Return a dead-letter queue with an event that could not be stored, and something else."""
    assert queue.dead_letters is not None
    grave = queue.dead_letters
    for code, body, reason, text in (
        (DATA, failed(), "MaxDeliveryCountExceeded", "Ten tries.\x1b[2J"),
        (VALUE, "a text that is no event", "Not an event of Azure DevOps", "The body is not JSON."),
        (DATA, failed(43), "Mine", ""),
    ):
        told = {"DeadLetterReason": reason, "DeadLetterErrorDescription": text}
        message = Message(section(code, encode(body)), dead_letter=told, source=queue.name)
        broker.do(lambda message=message: grave.put(message))  # type: ignore[misc]
    return grave


def test_they_are_listed_with_their_reason_and_run(buried: Queue) -> None:
    done = dead_letters("list")
    first, second, _, last = done.output.splitlines()
    assert f"{PROJECT}/build/42  MaxDeliveryCountExceeded: Ten tries.�[2J" in first
    assert "–  Not an event of Azure DevOps: The body is not JSON." in second
    assert "has 3 dead letters" in last
    rows = [
        json.loads(line)
        for line in dead_letters("list", "--format", "json", "--limit", "2").stdout.splitlines()
    ]
    assert [(row["id"], row["event_type"]) for row in rows] == [(1, "build.complete"), (2, "")]
    assert "a text that is no event" not in done.output + str(rows)
    assert len(buried.ready) == 3, "looking takes none"


def test_one_is_shown_without_its_body(buried: Queue) -> None:
    done = dead_letters("show", "2")
    assert done.exit_code == 0
    assert "Reason       Not an event of Azure DevOps: The body is not JSON." in done.output
    assert "23 bytes" in done.output
    assert "a text" not in done.output
    assert json.loads(dead_letters("show", "1", "--format", "json").output)["run"] == f"{PROJECT}/build/42"
    missing = dead_letters("show", "99")
    assert (missing.exit_code, "no dead letter 99" in missing.output) == (2, True)


def test_one_is_replayed_and_triaged(
    buried: Queue, queue: Queue, settings: config.Settings, engine: Engine
) -> None:
    assert dead_letters("replay", "3").output == "Dead letter 3 is on the queue again.\n"
    assert [message.sequence for message in buried.ready] == [1, 2]
    assert not buried.locks
    with receiving(settings, engine):
        until(lambda: queue.counted["complete"] == 1)
    assert runs(engine) == [43]


def test_all_are_replayed_and_what_is_no_event_comes_back(
    buried: Queue, queue: Queue, settings: config.Settings, engine: Engine
) -> None:
    assert dead_letters("replay", "--all").exit_code == 0
    with receiving(settings, engine):
        until(lambda: queue.counted["complete"] == 2 and queue.counted["buried"] == 1)
    assert runs(engine) == [42, 43]
    (back,) = buried.ready
    assert back.dead_letter["DeadLetterReason"] == "Not an event of Azure DevOps"
    assert "not JSON" in dead_letters("list").output


def test_a_replay_broken_off_after_sending_is_one_job(
    broker: Broker, buried: Queue, queue: Queue, settings: config.Settings, engine: Engine
) -> None:
    def break_off(name: str, _: object) -> bool:
        if name == buried.name:
            broker.loop.call_soon(broker.abort)  # type: ignore[union-attr]
            return False
        return True

    broker.before_settle = break_off
    assert dead_letters("replay", "1").exit_code != 0
    broker.before_settle = None
    broker.do(lambda: buried.expire(everything=True))
    assert dead_letters("replay", "1").exit_code == 0
    with receiving(settings, engine):
        until(lambda: queue.counted["complete"] == 2)
    assert runs(engine) == [42]


def test_an_empty_queue_is_said_to_be_so() -> None:
    assert "has no dead letters" in dead_letters("list").output
    assert dead_letters("replay", "--all").output == "There are no dead letters.\n"


@pytest.mark.parametrize(
    ("variables", "arguments", "said", "code"),
    [
        ({}, ["replay"], "or --all", 2),
        ({}, ["replay", "--all", "1"], "or --all", 2),
        ({}, ["replay", "7"], "Not replayed: 7", 2),
        ({"TRIAGE_SERVICE_BUS__QUEUE": "missing"}, ["list"], "has no queue missing", 3),
        ({"TRIAGE_SERVICE_BUS__CONNECTION_STRING": None}, ["list"], "No Service Bus is set", 2),
    ],
)
def test_what_cannot_be_done_is_told(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str | None],
    arguments: list[str],
    said: str,
    code: int,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    done = dead_letters(*arguments)
    assert said in done.output
    assert done.exit_code == code


def test_a_bus_that_is_away_is_an_input_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, broker: Broker
) -> None:
    with Broker() as gone:
        away = gone.connection_string
    monkeypatch.setenv("TRIAGE_SERVICE_BUS__CONNECTION_STRING", away)
    done = dead_letters("list")
    assert done.exit_code == 3
    assert "does not answer" in done.output
    assert gone.key not in done.output
