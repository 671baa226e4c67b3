"""The queue's dead letters: shown without their bodies, and put on the queue again."""

from __future__ import annotations

import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError
from azure.servicebus import ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.exceptions import MessageLockLostError

from triage import intake
from triage.errors import TriageError, UnreadableError
from triage.intake.bus import client
from triage.intake.bus.body import unwrap

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from azure.servicebus import ServiceBusClient, ServiceBusReceivedMessage

    from triage.config import Settings

_AT_ONCE = 50
_TEXT_MAX = 300


@dataclass(frozen=True)
class DeadLetter:
    """A message that could not be handled, without its body."""

    id: int  # its number in the dead-letter queue
    sent_at: datetime | None
    reason: str
    description: str
    deliveries: int
    size_bytes: int
    event_type: str
    run: str  # "" when it tells of none


def read(settings: Settings, *, limit: int) -> list[DeadLetter]:
    """Return the oldest dead letters and take none. Raises UnreadableError when the bus is away."""
    with _connected(client.access(settings)) as connection:
        return [_told(each, settings.azure_devops.url) for each in _peek(connection, settings, limit)]


def count(settings: Settings, *, limit: int, way: client.Access | None = None) -> int:
    """Return how many dead letters there are, to a limit. Raises UnreadableError when the bus is away."""
    with _connected(way or client.access(settings)) as connection:
        return sum(1 for _ in _peek(connection, settings, limit))


def replay(settings: Settings, ids: Collection[int]) -> list[int]:
    """Put dead letters on the queue again and return the ids of those that were there.

    Each is sent before it is taken away: broken off in between, it is there twice, which is one job.
    """
    bus, wanted, replayed, others = settings.service_bus, set(ids), [], []
    with (
        _connected(client.access(settings)) as connection,
        connection.get_queue_receiver(bus.queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver,
        connection.get_queue_sender(bus.queue) as sender,
    ):
        while wanted and (messages := receiver.receive_messages(_AT_ONCE, max_wait_time=client.WAIT_SECONDS)):
            for message in messages:
                number = message.sequence_number or 0
                if number not in wanted:
                    others.append(message)
                    continue
                sender.send_messages(_copy(message))
                with suppress(MessageLockLostError):
                    receiver.complete_message(message)
                wanted.discard(number)
                replayed.append(number)
        for message in others:
            with suppress(MessageLockLostError):
                receiver.abandon_message(message)
    return replayed


@contextmanager
def _connected(way: client.Access) -> Iterator[ServiceBusClient]:
    """Connect, and turn every failure on the way into a sentence."""
    try:
        with client.connect(way) as connection:
            yield connection
    except (OSError, AzureError, TriageError) as error:
        raise UnreadableError(client.explain(error, way).removesuffix("; it is tried again.")) from None


def _peek(
    connection: ServiceBusClient, settings: Settings, limit: int
) -> Iterator[ServiceBusReceivedMessage]:
    begin, left = 1, limit
    with connection.get_queue_receiver(
        settings.service_bus.queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER
    ) as receiver:
        while left > 0 and (
            found := receiver.peek_messages(
                min(left, _AT_ONCE), sequence_number=begin, timeout=client.TRY_SECONDS
            )
        ):
            yield from found
            left -= len(found)
            begin = (found[-1].sequence_number or 0) + 1


def _told(message: ServiceBusReceivedMessage, organization_url: str) -> DeadLetter:
    body = unwrap(client.payload(message))
    notice = intake.parse(body, organization_url)
    return DeadLetter(
        id=message.sequence_number or 0,
        sent_at=message.enqueued_time_utc,
        reason=_printable(message.dead_letter_reason),
        description=_printable(message.dead_letter_error_description),
        deliveries=message.delivery_count or 0,
        size_bytes=len(body),
        event_type=notice.event_type,
        run=str(notice.ref) if notice.ref else "",
    )


def _copy(message: ServiceBusReceivedMessage) -> ServiceBusMessage:
    """Return a message to send again, with an id of its own: it is no duplicate to be dropped."""
    return ServiceBusMessage(
        client.payload(message), content_type=message.content_type, message_id=str(uuid.uuid4())
    )


def _printable(text: str | None) -> str:
    return "".join(letter if letter.isprintable() else "�" for letter in (text or "")[:_TEXT_MAX])
