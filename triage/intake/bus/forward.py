"""Puts what the hook has received on the queue, many at once over one link."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTimeError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from azure.servicebus import ServiceBusMessage
from azure.servicebus.exceptions import MessageSizeExceededError

from triage.intake.bus import client
from triage.intake.bus.receive import backoff_seconds

if TYPE_CHECKING:
    from azure.servicebus import ServiceBusSender

log = structlog.get_logger()

_SEND_SECONDS = 5.0  # how long Azure DevOps waits for an answer is not documented
_BATCH_MESSAGES, _BATCH_BYTES = 100, 128 * 1024  # the basic tiers take 256 KiB at once


@dataclass(frozen=True)
class _Waiting:
    """An event on its way, and the hook that waits for it."""

    body: bytes
    accepted: Future[bool] = field(default_factory=Future)

    def settle(self, *, accepted: bool) -> None:
        if not self.accepted.done():
            self.accepted.set_result(accepted)


class Forwarder(threading.Thread):
    """Sends until told to stop. While the bus is away it says so at once."""

    def __init__(self, way: client.Access, stopping: threading.Event) -> None:
        super().__init__(name="triage-forward", daemon=True)
        self.way = way
        self.stopping = stopping
        self.connected = False
        self.problem = ""
        self.coming: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        self.unsent: list[_Waiting] = []
        self.failures = 0  # in a row, without a message sent in between

    def send(self, body: bytes) -> bool:
        """Return True once the queue has accepted an event; False when it must be kept elsewhere.

        False may be wrong when the bus answers late; then the event is kept twice, which is one job.
        """
        if not self.connected:
            return False
        waiting = _Waiting(body)
        self.coming.put(waiting)
        try:
            return waiting.accepted.result(_SEND_SECONDS)
        except NotInTimeError:
            self.connected = False  # as far as is known: the next hook need not wait as long
            return False

    def run(self) -> None:
        """Connect, send, and connect again. What failed is sent once more over a new link."""
        while not self.stopping.is_set():
            try:
                with (
                    client.connect(self.way) as connection,
                    connection.get_queue_sender(self.way.bus.queue) as sender,
                ):
                    self.connected, self.problem = True, ""
                    self._forward(sender)
            except Exception as error:  # noqa: BLE001 - whatever it is, the hook keeps events elsewhere
                self.failures += 1
                if self.failures > 1:
                    self.connected, self.problem = False, client.explain(error, self.way)
                    log.warning(self.problem)
                    self._give_up()
                    self.stopping.wait(backoff_seconds(self.failures))
        self.connected = False
        self._give_up()

    def _forward(self, sender: ServiceBusSender) -> None:
        last = time.monotonic()
        while not self.stopping.is_set() and time.monotonic() - last < client.REOPEN_SECONDS:
            self.unsent = self.unsent or self._next()
            if not self.unsent:
                self.failures = 0
                continue
            try:
                sender.send_messages([_message(each.body) for each in self.unsent], timeout=_SEND_SECONDS)
            except MessageSizeExceededError:  # one that is too large comes alone
                accepted = False
            else:
                accepted = True
            for each in self.unsent:
                each.settle(accepted=accepted)
            self.unsent, self.failures, last = [], 0, time.monotonic()
            self.connected = True

    def _next(self) -> list[_Waiting]:
        """Return what waits, as much as goes at once; a large event goes alone."""
        taken: list[_Waiting] = []
        room = _BATCH_BYTES
        try:
            taken.append(self.coming.get(timeout=0.5))
            room -= len(taken[0].body)
            while room > 0 and len(taken) < _BATCH_MESSAGES:
                following = self.coming.get_nowait()
                room -= len(following.body)
                taken.append(following)
        except queue.Empty:
            pass
        return taken

    def _give_up(self) -> None:
        """Let every hook that waits keep its event elsewhere."""
        for each in self.unsent:
            each.settle(accepted=False)
        self.unsent = []
        while not self.coming.empty():
            self.coming.get().settle(accepted=False)


def _message(body: bytes) -> ServiceBusMessage:
    # Each with an id of its own: where the queue looks for duplicates, an event that failed and is
    # replayed must not count as one.
    return ServiceBusMessage(body, content_type="application/json", message_id=str(uuid.uuid4()))
