"""One slot that takes messages off the queue, stores them, and only then settles them."""

from __future__ import annotations

import sqlite3
import threading
import time
from typing import TYPE_CHECKING

import structlog
from azure.servicebus.exceptions import MessageLockLostError
from sqlalchemy import text
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from triage import db, faultpoint
from triage.intake.beat import Beats
from triage.intake.bus import client
from triage.intake.bus.body import unwrap
from triage.intake.deliveries import Keeper

if TYPE_CHECKING:
    from datetime import datetime

    from azure.servicebus import ServiceBusReceivedMessage, ServiceBusReceiver
    from sqlalchemy.engine import Engine

    from triage.config import Settings

log = structlog.get_logger()

# The database is away, full or read-only: it is not the message's fault.
_AWAY = (OperationalError, InterfaceError, InternalError, NoConnectionError, sqlite3.Error)
_AWAY_SECONDS = 1.0
_BACKOFF_SECONDS, _BACKOFF_MAX_SECONDS = 0.5, 30.0


class Receiver(threading.Thread):
    """Receives until told to stop; neither the bus nor the database going away ends it."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        stopping: threading.Event,
        way: client.Access,
    ) -> None:
        super().__init__(name="triage-service-bus", daemon=True)
        self.settings = settings
        self.engine = engine
        self.stopping = stopping
        self.way = way
        self.keeper = Keeper(engine, source="service-bus", beats=Beats())
        self.connected = False
        self.problem = ""  # why it is not connected
        self.received_at: datetime | None = None
        self.database_away = False

    def run(self) -> None:
        """Connect, receive, and connect again."""
        bus, failures = self.settings.service_bus, 0
        while not self.stopping.is_set():
            try:
                with (
                    client.connect(self.way) as connection,
                    connection.get_queue_receiver(bus.queue) as receiver,
                ):
                    self.connected, self.problem, failures = True, "", 0
                    log.info("receiving from the Service Bus", queue=bus.queue)
                    self._receive(receiver)
            except Exception as error:  # noqa: BLE001 - whatever it is, receiving goes on
                failures += 1
                self.problem = client.explain(error, self.way)
                log.warning(self.problem)
            self.connected = False
            if failures:
                self.stopping.wait(backoff_seconds(failures))

    def _receive(self, receiver: ServiceBusReceiver) -> None:
        """Handle messages one at a time until told to stop, or until it has been quiet for long."""
        last = time.monotonic()
        while not self.stopping.is_set() and time.monotonic() - last < client.REOPEN_SECONDS:
            if self.database_away and not self._database_answers():
                self.stopping.wait(_AWAY_SECONDS)  # else each try would count as a failed delivery
                last = time.monotonic()
                continue
            for message in receiver.receive_messages(max_message_count=1, max_wait_time=client.WAIT_SECONDS):
                last, self.received_at = time.monotonic(), db.now()
                faultpoint.reach("after receive")
                try:
                    self._handle(receiver, message)
                except MessageLockLostError:
                    log.info("a message's lock ran out; it comes again", message=message.sequence_number)

    def _handle(self, receiver: ServiceBusReceiver, message: ServiceBusReceivedMessage) -> None:
        """Store a message and settle it. Raises MessageLockLostError when that was too late.

        While the database is away the message is held, so that the wait is no failed delivery.
        """
        body = unwrap(client.payload(message))
        whole = body if len(body) <= self.settings.hook.max_body_bytes else None
        while True:
            try:
                stored = self.keeper.store(whole, self.settings.azure_devops.url)
            except _AWAY:
                if self.stopping.is_set():
                    receiver.abandon_message(message)
                    return
                self._hold(receiver, message)
            except Exception:  # this message, and no other, cannot be stored: ten tries are enough
                log.exception("a message could not be stored", message=message.sequence_number)
                self.stopping.wait(backoff_seconds(1 + (message.delivery_count or 0)))
                receiver.abandon_message(message)
                return
            else:
                self.database_away = False
                _settle(receiver, message, stored)
                return

    def _hold(self, receiver: ServiceBusReceiver, message: ServiceBusReceivedMessage) -> None:
        """Wait a moment for the database, keeping the message's lock. Raises MessageLockLostError."""
        if not self.database_away:
            self.database_away = True
            log.warning("the database is away; messages wait in the Service Bus")
        self.stopping.wait(_AWAY_SECONDS)
        receiver.renew_message_lock(message)

    def _database_answers(self) -> bool:
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except _AWAY:
            return False
        self.database_away = False
        return True


def _settle(receiver: ServiceBusReceiver, message: ServiceBusReceivedMessage, stored: dict[str, str]) -> None:
    faultpoint.reach("before settle")
    if stored["outcome"] == "refused":
        receiver.dead_letter_message(
            message, reason="Not an event of Azure DevOps", error_description=stored["reason"]
        )
        log.warning("dead-lettered", message=message.sequence_number, reason=stored["reason"])
    else:
        receiver.complete_message(message)
        log.info("received", message=message.sequence_number, outcome=stored["outcome"])
    faultpoint.reach("after settle")


def backoff_seconds(failures: int) -> float:
    """Return the wait after so many failures in a row: doubling, capped."""
    return min(_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 16), _BACKOFF_MAX_SECONDS)
