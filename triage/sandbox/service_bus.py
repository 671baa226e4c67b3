"""The played organisation's Service Bus consumer: it puts events on a queue, as Azure DevOps does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import ServiceBusAuthenticationError, ServiceBusError

if TYPE_CHECKING:
    from collections.abc import Mapping

CONSUMER = ("azureServiceBus", "serviceBusQueueSend")
_NAMESPACE = b"http://schemas.microsoft.com/2003/10/Serialization/"
_TRY_SECONDS = 10.0


def post(inputs: Mapping[str, str], event: dict[str, Any]) -> int:
    """Send an event once and return a status as a web hook would have: 0 when nobody answers."""
    text = json.dumps(event)
    body = text.encode() if inputs.get("bypassSerializer") == "true" else serialized(text)
    try:
        with (
            ServiceBusClient.from_connection_string(
                inputs["connectionString"], retry_total=0, try_timeout=_TRY_SECONDS
            ) as client,
            client.get_queue_sender(inputs["queueName"]) as sender,
        ):
            sender.send_messages(ServiceBusMessage(body))
    except ServiceBusAuthenticationError:
        return 401
    except (ServiceBusError, OSError):
        return 0
    return 200


def serialized(text: str, *, merged_end: bool = True) -> bytes:
    """Return a text as .NET's DataContractSerializer writes it in binary XML.

    The end of the element is merged into the text's record, or, where the writer's buffer was full, one
    of its own.
    """
    raw = text.encode()
    record, width = next((r, w) for r, w in ((0x98, 1), (0x9A, 2), (0x9C, 4)) if len(raw) < 256**w)
    head = b"\x40\x06string\x08" + bytes([len(_NAMESPACE)]) + _NAMESPACE
    said = len(raw).to_bytes(width, "little") + raw
    return head + bytes([record + merged_end]) + said + (b"" if merged_end else b"\x01")
