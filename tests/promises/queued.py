"""The played Service Bus beside the trials, what goes into its queue, and what lies there."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from azure.servicebus._pyamqp import client as amqp
from pydantic import SecretStr

from triage import config
from triage.intake.bus import client
from triage.intake.bus.body import unwrap
from triage.sandbox.bus import Broker, Queue
from triage.sandbox.bus.codec import decode, sections
from triage.sandbox.bus.wire import DATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.promises.lane import Lane
    from triage.sandbox.bus import Message

QUEUE = "triage"
_DRAIN_SECONDS = 60.0


@dataclass(frozen=True)
class Lying:
    """What a queue holds."""

    waiting: int
    held: int  # by somebody, under a lock
    dead: tuple[Dead, ...]
    counted: dict[str, int]


@dataclass(frozen=True)
class Dead:
    """A dead letter."""

    sequence: int
    body: bytes
    reason: str
    description: str


@contextmanager
def serving() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Serve a queue for forked.Beside."""
    with Broker(Queue(QUEUE)) as broker:
        yield broker.connection_string, lambda function, *arguments: function(broker, *arguments)


def settings(lane: Lane, address: str, **more: Any) -> config.Settings:
    """Return a lane's settings with the queue in them."""
    bus = config.ServiceBus(connection_string=SecretStr(address), queue=QUEUE, **more)
    return lane.settings.model_copy(update={"service_bus": bus})


def hurry() -> None:
    """Let this process wait less for a quiet queue and for links that are closed."""
    client.WAIT_SECONDS = 0.2
    # A link is closed when its thread has slept out its second.
    hurried = SimpleNamespace(**vars(time) | {"sleep": lambda seconds: time.sleep(min(seconds, 0.05))})
    vars(amqp)["time"] = hurried


def look(broker: Broker) -> Lying:
    """Return what the queue holds."""
    queue = broker.queues[QUEUE]
    grave = queue.dead_letters
    assert grave is not None
    return broker.do(
        lambda: Lying(
            len(queue.ready),
            len(queue.locks),
            tuple(_dead(each) for each in grave.peek(0, 1_000_000)),
            dict(queue.counted),
        )
    )


def drained(broker: Broker) -> bool:
    """Wait until the queue is empty; False when it never is."""
    end = time.monotonic() + _DRAIN_SECONDS
    while (lying := look(broker)).waiting or lying.held:
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def _dead(message: Message) -> Dead:
    (body,) = (decode(value)[0] for code, value in sections(message.content) if code == DATA)
    told = message.dead_letter
    return Dead(
        message.sequence,
        unwrap(body),
        told.get("DeadLetterReason", ""),
        told.get("DeadLetterErrorDescription", ""),
    )
