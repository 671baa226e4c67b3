"""The played Service Bus beside the trials, what goes into its queue, and what lies there."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from azure.servicebus import _servicebus_receiver, _servicebus_sender
from azure.servicebus._pyamqp import client as amqp
from pydantic import SecretStr

from triage import config
from triage.intake.bus import client, receive
from triage.intake.bus.body import unwrap
from triage.sandbox.bus import Broker, Message, Queue
from triage.sandbox.bus.codec import decode, encode, section, sections
from triage.sandbox.bus.wire import DATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.promises.lane import Lane

QUEUE = "triage"
_DRAIN_SECONDS = 60.0
_STILL_SECONDS = 0.5


@dataclass(frozen=True)
class Lying:
    """What a queue holds."""

    waiting: int
    held: int  # by somebody, under a lock
    dead: tuple[Dead, ...]
    counted: dict[str, int]

    def __str__(self) -> str:
        return f"{self.waiting} wait, {self.held} are held, {len(self.dead)} are dead letters"


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
    """Let this process wait less: for a quiet queue, for links to open and close, and after failures."""
    client.WAIT_SECONDS = 0.1
    receive._AWAY_SECONDS, receive._BACKOFF_SECONDS = 0.1, 0.0001
    # The library looks twenty times a second whether a link is open, and once whether it is to be closed.
    for module, most in ((amqp, 0.05), (_servicebus_receiver, 0.003), (_servicebus_sender, 0.003)):
        vars(module)["time"] = SimpleNamespace(**vars(time) | {"sleep": partial(_sleep, most)})


def _sleep(most: float, seconds: float) -> None:
    time.sleep(min(seconds, most))


def put(broker: Broker, bodies: list[bytes]) -> None:
    """Put messages on the queue."""
    messages = [Message(section(DATA, encode(body))) for body in bodies]

    def put_all() -> None:
        for each in messages:
            broker.queues[QUEUE].put(each)

    broker.do(put_all)


def harm(broker: Broker, kind: str) -> None:
    """Do something bad, once, at the next message that is handed out or settled."""
    if kind == "cut while handing out":
        broker.cut_transfers = 1
        return
    queue = broker.queues[QUEUE]

    def before_settle(*_: object) -> bool:
        broker.before_settle = None
        if kind == "lock lost":
            queue.expire(everything=True)
        else:
            broker.abort()
        return kind != "cut, unsettled"

    broker.before_settle = before_settle


def is_harmed(broker: Broker) -> bool:
    return broker.before_settle is None and not broker.cut_transfers


def lose_locks(broker: Broker) -> None:
    """Let the time pass after which nobody holds a message any more."""
    broker.lose_locks(QUEUE)


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
    """Wait until the queue is empty, letting locks run out that nobody frees; False when it never is."""
    end = time.monotonic() + _DRAIN_SECONDS
    before, since = look(broker), time.monotonic()
    while before.waiting or before.held:
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
        if (now := look(broker)) != before:
            before, since = now, time.monotonic()
        elif now.held and time.monotonic() - since > _STILL_SECONDS:
            lose_locks(broker)
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
