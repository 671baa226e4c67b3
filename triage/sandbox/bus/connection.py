"""One client's connection: its sessions and links, and what it asks on them."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from triage.sandbox.bus import wire
from triage.sandbox.bus.codec import (
    AMQP,
    SASL,
    Described,
    Int,
    Symbol,
    Timestamps,
    UByte,
    UInt,
    ULong,
    UShort,
    decode,
    encode,
    frame,
    frames,
    performative,
    section,
    sections,
)
from triage.sandbox.bus.queues import Queue, RefusedError

if TYPE_CHECKING:
    from triage.sandbox.bus.broker import Broker
    from triage.sandbox.bus.queues import Message, Outcome

OPEN, BEGIN, ATTACH, FLOW, TRANSFER, DISPOSITION, DETACH, END, CLOSE = range(0x10, 0x19)
SASL_MECHANISMS, SASL_INIT, SASL_OUTCOME = 0x40, 0x41, 0x44
ERROR, ACCEPTED, REJECTED, RELEASED, MODIFIED, SOURCE, TARGET = 0x1D, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29
TOKENS, MANAGEMENT = "$cbs", "/$management"
_BATCH = 0x80013700  # message format: each data section is a message
_FRAME_BYTES = 65536
_WINDOW = 1000


@dataclass(eq=False)
class Link:
    """One direction between a client and a queue, or a node that answers requests."""

    connection: Connection
    channel: int
    name: str
    handle: int
    hands_out: bool  # messages go to the client
    source: Any
    target: Any
    send_mode: int | None
    address: str
    queue: Queue | None = None
    limit: int = 0  # so many messages the client wants in all
    count: int = 0  # so many have gone over this link
    parts: list[bytes] = field(default_factory=list)

    @property
    def takes_for_good(self) -> bool:
        """Return True when what is handed out counts as settled."""
        return self.send_mode == 1

    def credit(self) -> int:
        """Return how many messages the client wants now."""
        return self.limit - self.count

    def hand(self, message: Message, token: uuid.UUID, until: float) -> None:
        """Send a message to the client."""
        body = wire.write(message, None if self.takes_for_good else until)
        self.connection.transfer(self, body, token, locked=not self.takes_for_good)


class Connection(asyncio.Protocol):
    """Speaks AMQP 1.0 with one client."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.buffer = bytearray()
        self.links: dict[tuple[int, int], Link] = {}  # by channel and handle
        self.unsettled: dict[tuple[int, int], tuple[Link, uuid.UUID]] = {}  # by channel and delivery
        self.next_delivery = 0
        self.trusted_until = 0.0  # when the token ends that was accepted last
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet nobody: the client speaks first."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - narrows the type
        self.transport = transport
        self.broker.connections.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        """Hand it nothing more."""
        self.broker.connections.discard(self)
        for link in list(self.links.values()):
            self._forget(link)

    def data_received(self, data: bytes) -> None:
        """Answer what has come in whole."""
        if self.broker.is_mute:
            return
        self.buffer += data
        for kind, channel, body in frames(self.buffer):
            if kind == -1:
                self._greet(body)
            elif kind == SASL:
                if decode(body)[0].code == SASL_INIT:
                    self._send(0, performative(SASL_OUTCOME, UByte(0)), SASL)
            else:
                self._perform(channel, body)

    def transfer(self, link: Link, body: bytes, tag: uuid.UUID, *, locked: bool) -> None:
        """Send a message over a link, in as many frames as it needs."""
        delivery, self.next_delivery = self.next_delivery, self.next_delivery + 1
        if locked:
            self.unsettled[link.channel, delivery] = (link, tag)
        link.count += 1
        if locked and self.transport is not None and self.broker.cut_transfers > 0:
            self.broker.cut_transfers -= 1
            self.transport.write(frame(link.channel, body)[: len(body) // 2])
            self.transport.abort()
            return
        room = _FRAME_BYTES - 128
        for at in range(0, len(body), room):
            head = performative(
                TRANSFER,
                UInt(link.handle),
                UInt(delivery),
                tag.bytes_le,
                UInt(0),
                not locked,
                at + room < len(body),
            )
            self._send(link.channel, head + body[at : at + room])

    def _send(self, channel: int, body: bytes, kind: int = AMQP) -> None:
        if self.transport is not None:
            self.transport.write(frame(channel, body, kind))

    def _greet(self, header: bytes) -> None:
        if self.transport is not None:
            self.transport.write(header)
        if header[4] == 3:  # the client begins with SASL
            self._send(0, performative(SASL_MECHANISMS, Symbol("ANONYMOUS")), SASL)

    def _perform(self, channel: int, body: bytes) -> None:
        described, end = decode(body)
        fields = [*described.value, *[None] * 16]
        answer = {
            OPEN: self._open,
            BEGIN: self._begin,
            ATTACH: self._attach,
            FLOW: self._flow,
            DISPOSITION: self._dispose,
            DETACH: self._detach,
            END: self._end,
            CLOSE: self._close,
        }.get(described.code)
        if answer is not None:
            answer(channel, fields)
        elif described.code == TRANSFER:
            self._take(channel, fields, body[end:])

    def _open(self, channel: int, _: list[Any]) -> None:
        said = ("played-service-bus", None, UInt(_FRAME_BYTES), UShort(1000), UInt(240_000))
        self._send(channel, performative(OPEN, *said))

    def _begin(self, channel: int, _: list[Any]) -> None:
        windows = (UInt(0), UInt(65536), UInt(65536), UInt(1000))
        self._send(channel, performative(BEGIN, UShort(channel), *windows))

    def _detach(self, channel: int, fields: list[Any]) -> None:
        if link := self.links.get((channel, fields[0])):
            self._forget(link)
            self._send(channel, performative(DETACH, UInt(link.handle), True))

    def _end(self, channel: int, _: list[Any]) -> None:
        for link in [each for each in self.links.values() if each.channel == channel]:
            self._forget(link)
        self._send(channel, performative(END))

    def _close(self, channel: int, _: list[Any]) -> None:
        self._send(channel, performative(CLOSE))
        if self.transport is not None:
            self.transport.close()

    def _attach(self, channel: int, fields: list[Any]) -> None:
        name, handle, hands_out, send_mode, _, source, target = fields[:7]
        given = (source if hands_out else target).value[0]
        given = given.decode() if isinstance(given, bytes) else given
        address = urlsplit(given).path.lstrip("/") if "://" in given else given
        link = Link(self, channel, name, handle, bool(hands_out), source, target, send_mode, address)
        self.links[channel, handle] = link
        try:
            self._admit(link)
        except RefusedError as refusal:
            # Refused is who is answered without a source or target, and then detached.
            self._answer_attach(link, refused=True)
            self._forget(link)
            said = performative(DETACH, UInt(handle), True, _error(refusal))
            self._send(channel, said)
            return
        self._answer_attach(link)
        if link.hands_out and link.queue is not None:
            link.queue.join(link)
        elif not link.hands_out:
            self._grant(link)

    def _admit(self, link: Link) -> None:
        """Let a link to its node. Raises RefusedError."""
        if link.address == TOKENS:
            return
        if self.trusted_until <= time.time():
            raise RefusedError(
                "amqp:unauthorized-access", "Unauthorized access: no valid token was put.", 401
            )
        name = link.address.removesuffix(MANAGEMENT)
        queue = self.broker.find(name)
        if name == link.address:
            link.queue = queue

    def _answer_attach(self, link: Link, *, refused: bool = False) -> None:
        source = None if refused and link.hands_out else _node(SOURCE, link.source)
        target = None if refused and not link.hands_out else _node(TARGET, link.target)
        mode = None if link.send_mode is None else UByte(link.send_mode)
        first = UInt(0) if link.hands_out else None
        said = performative(
            ATTACH,
            link.name,
            UInt(link.handle),
            not link.hands_out,
            mode,
            UByte(0),
            source,
            target,
            None,
            None,
            first,
            ULong(self.broker.max_message_bytes),
        )
        self._send(link.channel, said)

    def _grant(self, link: Link) -> None:
        """Let the client send."""
        link.limit = link.count + _WINDOW
        self._say_flow(link, _WINDOW)

    def _say_flow(self, link: Link, credit: int, *, drained: bool = False) -> None:
        session = (UInt(0), UInt(65536), UInt(0), UInt(65536))
        drain = True if drained else None
        self._send(
            link.channel,
            performative(FLOW, *session, UInt(link.handle), UInt(link.count), UInt(credit), None, drain),
        )

    def _flow(self, channel: int, fields: list[Any]) -> None:
        link = self.links.get((channel, fields[4]))
        if link is None or not link.hands_out:
            return
        link.limit = (fields[5] or 0) + (fields[6] or 0)
        if link.queue is not None:
            link.queue.dispatch()
        if fields[8]:  # drain: what is not there now is not wanted any more
            link.count = max(link.count, link.limit)
            self._say_flow(link, 0, drained=True)

    def _take(self, channel: int, fields: list[Any], payload: bytes) -> None:
        """Take a part of what the client sends; answer the whole."""
        link = self.links[channel, fields[0]]
        if not link.parts:
            link.target = (fields[1], fields[3], bool(fields[4]))  # of the delivery that begins
        link.parts.append(payload)
        if fields[5]:
            return
        delivery, form, settled = link.target
        sent = b"".join(link.parts)
        link.parts.clear()
        link.count += 1
        if link.credit() < _WINDOW // 2:
            self._grant(link)
        outcome = Described(ACCEPTED, [])
        if link.queue is not None:
            try:
                self.broker.put(link.queue, _unpacked(sent) if form == _BATCH else [sent])
            except RefusedError as refusal:
                outcome = Described(REJECTED, [_error(refusal)])
        if not settled:
            self._settled(channel, delivery, outcome, receiver=True)
        if link.queue is None:
            self._request(link, sent)

    def _settled(self, channel: int, delivery: int, outcome: Described, *, receiver: bool) -> None:
        said = performative(DISPOSITION, receiver, UInt(delivery), UInt(delivery), True, outcome)
        self._send(channel, said)

    def _dispose(self, channel: int, fields: list[Any]) -> None:
        _, first, last, settled, state = fields[:5]
        for delivery in range(first, (first if last is None else last) + 1):
            if state is None or (channel, delivery) not in self.unsettled:
                continue
            link, token = self.unsettled.pop((channel, delivery))
            if link.queue is None:
                continue
            try:
                answer = self._settle(link.queue, token, state)
            except RefusedError as refusal:
                answer = Described(REJECTED, [_error(refusal)])
            if answer is not None and not settled:
                self._settled(channel, delivery, answer, receiver=False)

    def _settle(self, queue: Queue, token: uuid.UUID, state: Described) -> Described | None:
        """Settle a delivery and return what to answer, None for silence. Raises RefusedError."""
        outcomes: dict[int, Outcome] = {
            ACCEPTED: "complete",
            RELEASED: "release",
            MODIFIED: "abandon",
            REJECTED: "dead-letter",
        }
        outcome = outcomes[state.code]
        if not self.broker.may_settle(queue, token, outcome):
            return None
        if outcome != "dead-letter":
            queue.settle(token, outcome)
            return Described(state.code, [])
        told = state.value[0].value if state.value and state.value[0] else []
        why = told[2] if len(told) > 2 and told[2] else {}
        reason, description = why.get("DeadLetterReason"), why.get("DeadLetterErrorDescription")
        queue.settle(token, outcome, reason or "", description or "")
        return Described(REJECTED, [])

    def _request(self, link: Link, sent: bytes) -> None:
        """Answer a request on the link that the client has opened for answers of this node."""
        request = dict(sections(sent))
        properties = decode(request[wire.PROPERTIES])[0]
        asked = decode(request[wire.APPLICATION_PROPERTIES])[0]
        body = decode(request[wire.VALUE])[0] if wire.VALUE in request else None
        if link.address == TOKENS:
            self.trusted_until = self.broker.trusts_until(str(body))
            status = 202 if self.trusted_until > time.time() else 401
            told: dict[str, Any] = {"status-code": Int(status), "status-description": "Answered"}
            result = None
        else:
            result, told = self._manage(link, str(asked["operation"]), body or {})
        answer = performative(wire.PROPERTIES, None, None, None, None, None, properties[0])
        answer += section(wire.APPLICATION_PROPERTIES, encode(told)) + section(wire.VALUE, encode(result))
        for back in self.links.values():
            if back.hands_out and (back.channel, back.address) == (link.channel, link.address):
                self.transfer(back, answer, uuid.uuid4(), locked=False)
                return

    def _manage(self, link: Link, operation: str, body: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        queue = self.broker.find(link.address.removesuffix(MANAGEMENT))
        try:
            result = _managed(queue, operation.removeprefix("com.microsoft:"), body)
        except RefusedError as refusal:
            said = {"statusDescription": refusal.text, "errorCondition": Symbol(refusal.condition)}
            return None, {"statusCode": Int(refusal.status), **said}
        return result, {"statusCode": Int(200 if result is not None else 204), "statusDescription": "OK"}

    def _forget(self, link: Link) -> None:
        self.links.pop((link.channel, link.handle), None)
        if link.queue is not None:
            link.queue.leave(link)


def _managed(queue: Queue, operation: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """Do what is asked of a queue's management node. Returns None for nothing found."""
    if operation == "peek-message":
        found = queue.peek(body["from-sequence-number"], body["message-count"])
        return {"messages": [{"message": wire.write(each)} for each in found]} if found else None
    if operation == "renew-lock":
        times = [queue.renew(token) for token in body["lock-tokens"]]
        return {"expirations": Timestamps(int(each * 1000) for each in times)}
    if operation == "update-disposition":
        outcomes: dict[str, Outcome] = {
            "completed": "complete",
            "abandoned": "abandon",
            "suspended": "dead-letter",
        }
        for token in body["lock-tokens"]:
            reason, text = body.get("deadletter-reason"), body.get("deadletter-description")
            queue.settle(token, outcomes[body["disposition-status"]], reason or "", text or "")
        return {}
    raise RefusedError("amqp:not-implemented", f"The played Service Bus cannot {operation}.", 501)


def _unpacked(batch: bytes) -> list[bytes]:
    return [decode(value)[0] for code, value in sections(batch) if code == wire.DATA]


def _node(code: int, given: Any) -> Described | None:
    """Return the source or target of a link as it was asked for, its address alone."""
    return Described(code, [given.value[0]]) if isinstance(given, Described) else None


def _error(refusal: RefusedError) -> Described:
    # Without the third field the client library would wait for ever.
    return Described(ERROR, [Symbol(refusal.condition), refusal.text, {Symbol("tracking"): uuid.uuid4().hex}])
