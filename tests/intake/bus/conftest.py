"""A played Service Bus that the client library talks to, and a database."""

from __future__ import annotations

import itertools
import json
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from sqlmodel import Session, select
from structlog.testing import capture_logs

from triage import config, db
from triage.db import Delivery, Job
from triage.intake.bus import Bus, client, receive
from triage.sandbox.bus import Broker, Message, Queue
from triage.sandbox.bus.codec import encode, section
from triage.sandbox.bus.wire import DATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Engine

SAMPLE = Path(__file__).parent.parent.parent / "samples" / "build-complete-2.0.json"
ORGANIZATION = "https://dev.azure.com/FabrikamFiber"
NUMBERS = itertools.count(1)


def failed(run: int = 42, **changes: Any) -> bytes:
    """Return the event of a failed run."""
    event = json.loads(SAMPLE.read_text())
    event["resource"] |= {"id": run, "result": "failed"}
    return json.dumps(event | changes).encode()


def put(broker: Broker, queue: Queue, *bodies: bytes) -> None:
    """Put messages on a queue."""
    for body in bodies:
        message = Message(section(DATA, encode(body)))
        broker.do(lambda message=message: queue.put(message))  # type: ignore[misc]


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something that must come true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def deliveries(engine: Engine) -> list[Delivery]:
    with Session(engine, expire_on_commit=False) as session:
        return list(session.exec(select(Delivery)).all())


def runs(engine: Engine) -> list[int]:
    """Return the runs of all jobs."""
    with Session(engine) as session:
        return sorted(number for number in session.exec(select(Job.run_id)) if number is not None)


def settings_for(broker: Broker, queue: Queue, **more: Any) -> config.Settings:
    return config.Settings(
        azure_devops=config.AzureDevOps(url=ORGANIZATION),
        hook=config.Hook(password=SecretStr("open sesame")),
        service_bus=config.ServiceBus(
            connection_string=SecretStr(broker.connection_string), queue=queue.name, **more
        ),
    )


@contextmanager
def receiving(settings: config.Settings, engine: Engine) -> Iterator[Bus]:
    """Receive until the end of the block, and check that it stops within seconds."""
    with Bus(settings, engine) as bus:
        yield bus
        left = time.monotonic()
    assert time.monotonic() - left < 5


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    """Our log entries, kept off the screen."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no triage.toml here
    # The library looks twenty times a second whether a link is open, and once whether it is to be closed.
    for module, most in (
        ("_pyamqp.client", 0.05),
        ("_servicebus_receiver", 0.003),
        ("_servicebus_sender", 0.003),
    ):
        hurried = SimpleNamespace(**vars(time) | {"sleep": partial(_sleep, most)})
        monkeypatch.setattr(f"azure.servicebus.{module}.time", hurried)
    monkeypatch.setattr(client, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(client, "TRY_SECONDS", 3.0)
    monkeypatch.setattr(receive, "_AWAY_SECONDS", 0.1)
    monkeypatch.setattr(receive, "_BACKOFF_SECONDS", 0.001)


def _sleep(most: float, seconds: float) -> None:
    time.sleep(min(seconds, most))


@pytest.fixture(scope="session")
def shared_broker() -> Iterator[Broker]:
    with Broker() as broker:
        yield broker


@pytest.fixture
def broker(shared_broker: Broker) -> Iterator[Broker]:
    yield shared_broker
    shared_broker.before_settle = None
    shared_broker.refuse_sends = ""
    shared_broker.is_mute = False


@pytest.fixture
def queue(broker: Broker) -> Queue:
    return broker.add(Queue(f"triage-{next(NUMBERS)}"))


@pytest.fixture
def settings(broker: Broker, queue: Queue) -> config.Settings:
    return settings_for(broker, queue)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = db.open_engine(f"sqlite:///{tmp_path}/triage.db")
    db.migrate(made)
    yield made
    made.dispose()
