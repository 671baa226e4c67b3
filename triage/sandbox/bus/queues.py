"""What a Service Bus queue promises, without a wire: locks, counted deliveries, dead letters."""

from __future__ import annotations

import itertools
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

Outcome = Literal["complete", "abandon", "release", "dead-letter"]

LOCK_LOST = "com.microsoft:message-lock-lost"
NO_ROOM = "amqp:link:message-size-exceeded"


class RefusedError(Exception):
    """The service says no, with a condition that the client library knows."""

    def __init__(self, condition: str, text: str, status: int = 410) -> None:
        super().__init__(text)
        self.condition = condition
        self.text = text
        self.status = status


@dataclass(frozen=True)
class Message:
    """A message as it lies in a queue."""

    content: bytes  # the sections from the properties on, as they were sent
    annotations: bytes = b""  # the sender's, encoded
    sequence: int = 0
    deliveries: int = 0  # that came to nothing
    enqueued_at: float = 0.0
    dead_letter: dict[str, str] = field(default_factory=dict)  # why it is one: its own properties
    source: str = ""  # the queue that a dead letter is from


class Consumer(Protocol):
    """A link that messages are handed to."""

    @property
    def takes_for_good(self) -> bool:
        """Return True to receive and delete, instead of peek and lock."""

    def credit(self) -> int:
        """Return how many messages it wants now."""

    def hand(self, message: Message, token: uuid.UUID, until: float) -> None:
        """Take a message."""


@dataclass(frozen=True)
class Lock:
    """A message in somebody's hands."""

    message: Message
    until: float


class Queue:
    """Messages in their order; each is handed out under a lock until somebody settles it."""

    def __init__(
        self,
        name: str,
        *,
        lock_seconds: float = 60.0,
        max_deliveries: int = 10,
        max_bytes: int = 256 * 1024,
        is_dead_letters: bool = False,
    ) -> None:
        self.name = name
        self.lock_seconds = lock_seconds
        self.max_deliveries = max_deliveries
        self.max_bytes = max_bytes
        self.copies = 1  # so often is each message put that comes in: at-least-once, on demand
        self.ready: list[Message] = []
        self.locks: dict[uuid.UUID, Lock] = {}
        self.consumers: list[Consumer] = []
        self.counted: Counter[str] = Counter()
        self.sequences = itertools.count(1)
        self.dead_letters = (
            None
            if is_dead_letters
            else Queue(f"{name}/$DeadLetterQueue", lock_seconds=lock_seconds, is_dead_letters=True)
        )

    def put(self, message: Message) -> None:
        """Append a message. Raises RefusedError when it is too large."""
        if len(message.content) > self.max_bytes:
            raise RefusedError(NO_ROOM, f"The message is larger than {self.max_bytes} bytes.")
        for _ in range(self.copies):
            self.counted["enqueued"] += 1
            self.ready.append(replace(message, sequence=next(self.sequences), enqueued_at=time.time()))
        self.dispatch()

    def join(self, consumer: Consumer) -> None:
        """Hand messages to one more consumer from now on."""
        self.consumers.append(consumer)
        self.dispatch()

    def leave(self, consumer: Consumer) -> None:
        """Hand it nothing more; what it holds stays locked until the locks run out, as on the service."""
        if consumer in self.consumers:
            self.consumers.remove(consumer)

    def dispatch(self) -> None:
        """Hand out what waits, in turns, to whoever wants it."""
        while self.ready:
            wanting = next((each for each in self.consumers if each.credit() > 0), None)
            if wanting is None:
                return
            self.consumers.remove(wanting)
            self.consumers.append(wanting)
            message, token = self.ready.pop(0), uuid.uuid4()
            until = time.time() + self.lock_seconds
            if wanting.takes_for_good:
                self.counted["complete"] += 1
            else:
                self.locks[token] = Lock(message, until)
            wanting.hand(message, token, until)

    def settle(self, token: uuid.UUID, outcome: Outcome, reason: str = "", description: str = "") -> None:
        """End a delivery. Raises RefusedError when its lock is lost."""
        message = self._held(token).message
        del self.locks[token]
        self.counted[outcome] += 1
        if outcome == "abandon":
            self._fail(message)
        elif outcome == "release":
            self._put_back(message)
        elif outcome == "dead-letter":
            self._bury(message, reason, description)

    def renew(self, token: uuid.UUID) -> float:
        """Return until when a lock lasts from now on. Raises RefusedError when it is lost."""
        lock = self._held(token)
        until = time.time() + self.lock_seconds
        self.locks[token] = replace(lock, until=until)
        self.counted["renew"] += 1
        return until

    def expire(self, *, everything: bool = False) -> None:
        """Take back what was locked for too long, or all that is locked."""
        late = [token for token, lock in self.locks.items() if everything or lock.until <= time.time()]
        for token in late:
            self.counted["lock lost"] += 1
            self._fail(self.locks.pop(token).message)
        if self.dead_letters is not None:
            self.dead_letters.expire()

    def peek(self, first: int, count: int) -> list[Message]:
        """Return messages from a sequence number on, locked or not, without taking them."""
        lying = [*self.ready, *(lock.message for lock in self.locks.values())]
        return sorted((m for m in lying if m.sequence >= first), key=lambda m: m.sequence)[:count]

    def _held(self, token: uuid.UUID) -> Lock:
        lock = self.locks.get(token)
        if lock is None or lock.until <= time.time():
            raise RefusedError(
                LOCK_LOST, "The lock supplied is invalid: it expired, or the message has been removed."
            )
        return lock

    def _fail(self, message: Message) -> None:
        failed = replace(message, deliveries=message.deliveries + 1)
        if self.dead_letters is not None and failed.deliveries >= self.max_deliveries:
            self._bury(
                failed,
                "MaxDeliveryCountExceeded",
                f"Message could not be consumed after {failed.deliveries} delivery attempts.",
            )
        else:
            self._put_back(failed)

    def _put_back(self, message: Message) -> None:
        self.ready.append(message)
        self.ready.sort(key=lambda each: each.sequence)
        self.dispatch()

    def _bury(self, message: Message, reason: str, description: str) -> None:
        self.counted["buried"] += 1
        if self.dead_letters is None:
            return
        told = {"DeadLetterReason": reason, "DeadLetterErrorDescription": description}
        self.dead_letters.put(replace(message, dead_letter=told, source=self.name))
