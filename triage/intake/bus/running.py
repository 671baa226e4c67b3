"""Receivers and forwarder, started and stopped together, and what is known of the bus."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from triage.errors import UnreadableError
from triage.intake.bus import client, dead_letters
from triage.intake.bus.forward import Forwarder
from triage.intake.bus.receive import Receiver

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Self

    from sqlalchemy.engine import Engine

    from triage.config import Settings

log = structlog.get_logger()

_DRAIN_SECONDS = 15.0
_COUNT_SECONDS = 300.0
COUNTED_MAX = 1000  # so many dead letters are counted; more are "1000 or more"


@dataclass(frozen=True)
class State:
    """What is known of the Service Bus, for people."""

    used: bool  # the settings name one
    connected: bool  # at least one receiver is
    received_at: datetime | None  # the last message; None: none since the start
    dead_letters: int | None  # None: not known
    problem: str  # why it is not connected, or does not take what is forwarded


class Bus:
    """The Service Bus, as long as it is entered; does nothing when the settings name none.

    Raises UsageError when they are wrong.
    """

    def __init__(self, settings: Settings, engine: Engine) -> None:
        bus = settings.service_bus
        client.require_usable(settings)
        self.settings = settings
        self.way = client.access(settings)  # one identity, however many links
        self.stopping = threading.Event()
        self.used = client.is_used(bus)
        self.dead_letters: int | None = None
        slots = bus.receivers if self.used else 0
        self.receivers = [Receiver(settings, engine, self.stopping, self.way) for _ in range(slots)]
        self.forwarder = Forwarder(self.way, self.stopping) if bus.forward else None
        counting = threading.Thread(target=self._count, name="triage-dead-letters", daemon=True)
        others = [self.forwarder] if self.forwarder else []
        self.threads = [*self.receivers, *others, counting] if self.used else []

    def __enter__(self) -> Self:
        """Start to receive and to forward."""
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Finish what has been begun and stop."""
        self.stopping.set()
        end = time.monotonic() + _DRAIN_SECONDS
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))

    def forward(self, body: bytes) -> bool:
        """Return True when the queue has accepted an event; False when it must be kept elsewhere."""
        return self.forwarder is not None and self.forwarder.send(body)

    def state(self) -> State:
        """Return what is known of the bus now; asks nobody."""
        times = [each.received_at for each in self.receivers if each.received_at]
        problems = [each.problem for each in self.receivers if each.problem]
        if self.forwarder is not None and self.forwarder.problem:
            problems.append(self.forwarder.problem)
        return State(
            used=self.used,
            connected=any(each.connected for each in self.receivers),
            received_at=max(times, default=None),
            dead_letters=self.dead_letters,
            problem=problems[0] if problems else "",
        )

    def _count(self) -> None:
        """Count the dead letters from time to time: nobody else ever cleans them up."""
        while not self.stopping.is_set():
            try:
                found = dead_letters.count(self.settings, limit=COUNTED_MAX, way=self.way)
            except UnreadableError:  # the receivers say it, too
                self.dead_letters = None
            else:
                if found and found != self.dead_letters:
                    log.warning("dead letters wait: triage bus dead-letters list", count=found)
                self.dead_letters = found
            self.stopping.wait(_COUNT_SECONDS)
