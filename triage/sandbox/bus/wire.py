"""Messages on the wire: read when they are sent, written when they are handed out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from triage.sandbox.bus.codec import (
    Symbol,
    Timestamp,
    UByte,
    UInt,
    encode,
    encode_map,
    map_items,
    performative,
    section,
    sections,
)
from triage.sandbox.bus.queues import Message

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER, DELIVERY_ANNOTATIONS, ANNOTATIONS = 0x70, 0x71, 0x72
PROPERTIES, APPLICATION_PROPERTIES, DATA, VALUE = 0x73, 0x74, 0x75, 0x77


def read(sent: bytes) -> Message:
    """Return a message that was sent; what comes before its properties is the queue's to say."""
    message = Message(b"")
    for code, value in sections(sent):
        if code == ANNOTATIONS:
            message = replace(message, annotations=value)
        elif code not in (HEADER, DELIVERY_ANNOTATIONS):
            message = replace(message, content=message.content + section(code, value))
    return message


def write(message: Message, locked_until: float | None = None) -> bytes:
    """Return a message as the service hands it out."""
    said: dict[str, object] = {
        "x-opt-sequence-number": message.sequence,
        "x-opt-enqueued-time": Timestamp(message.enqueued_at * 1000),
    }
    if locked_until is not None:
        said["x-opt-locked-until"] = Timestamp(locked_until * 1000)
    if message.source:
        said["x-opt-deadletter-source"] = message.source
    header = performative(HEADER, True, UByte(4), None, message.deliveries == 0, UInt(message.deliveries))
    annotations = {Symbol(name): value for name, value in said.items()}
    return header + section(ANNOTATIONS, _with(message.annotations, annotations)) + _content(message)


def _content(message: Message) -> bytes:
    """Return the sections from the properties on; a dead letter's tell why it is one."""
    if not message.dead_letter:
        return message.content
    parts = dict.fromkeys((PROPERTIES, APPLICATION_PROPERTIES), b"")
    rest = b""
    for code, value in sections(message.content):
        if code in parts:
            parts[code] = value
        else:
            rest += section(code, value)
    before = section(PROPERTIES, parts[PROPERTIES]) if parts[PROPERTIES] else b""
    told = _with(parts[APPLICATION_PROPERTIES], message.dead_letter)
    return before + section(APPLICATION_PROPERTIES, told) + rest


def _with(known: bytes, more: Mapping[Any, object]) -> bytes:
    """Return an encoded map with more in it."""
    added = [encode(each) for pair in more.items() for each in pair]
    return encode_map(added, *map_items(known)) if known else encode_map(added)
