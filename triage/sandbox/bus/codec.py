"""AMQP 1.0 on the wire: types, performatives and frames, as far as a Service Bus needs them."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOCOL = b"AMQP"
AMQP, SASL = 0, 1  # kinds of frame


class Symbol(str):
    """A word of the protocol; a plain str is text."""

    __slots__ = ()


class UByte(int):
    """8 bits, unsigned."""


class UShort(int):
    """16 bits, unsigned."""


class UInt(int):
    """32 bits, unsigned."""


class ULong(int):
    """64 bits, unsigned."""


class Int(int):
    """32 bits, signed; a plain int has 64."""


class Timestamp(int):
    """Milliseconds since 1970."""


class Timestamps(list[int]):
    """An array of timestamps; a plain list is a list."""


@dataclass(frozen=True)
class Described:
    """A value that says what it is."""

    code: Any
    value: Any


_ENCODED: dict[type, tuple[int, str]] = {
    UByte: (0x50, ">B"),
    UShort: (0x60, ">H"),
    UInt: (0x70, ">I"),
    ULong: (0x80, ">Q"),
    Int: (0x71, ">i"),
    Timestamp: (0x83, ">q"),
    int: (0x81, ">q"),
}
_DECODED = {
    0x50: ">B",
    0x51: ">b",
    0x52: ">B",
    0x53: ">B",
    0x54: ">b",
    0x55: ">b",
    0x60: ">H",
    0x61: ">h",
    0x70: ">I",
    0x71: ">i",
    0x72: ">f",
    0x80: ">Q",
    0x81: ">q",
    0x82: ">d",
    0x83: ">q",
}
_CONSTANTS: dict[int, Any] = {0x40: None, 0x41: True, 0x42: False, 0x43: 0, 0x44: 0}
_FIXED_BYTES = {0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}  # by the upper half of the format code


def decode(data: bytes, at: int = 0) -> tuple[Any, int]:
    """Return the value that begins at `at`, and where the next one begins."""
    code = data[at]
    if code == 0x00:
        described, at = decode(data, at + 1)
        value, at = decode(data, at)
        return Described(described, value), at
    return _decode_as(code, data, at + 1)


def _decode_as(code: int, data: bytes, at: int) -> tuple[Any, int]:
    if code in _CONSTANTS:
        return _CONSTANTS[code], at
    if code == 0x56:
        return data[at] == 1, at + 1
    if code == 0x98:
        return uuid.UUID(bytes=data[at : at + 16]), at + 16
    if form := _DECODED.get(code):
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    return (_decode_text if code >> 4 in (0xA, 0xB) else _decode_many)(code, data, at)


def _decode_text(code: int, data: bytes, at: int) -> tuple[Any, int]:
    size, at = _size(code >> 4 == 0xA, data, at)
    raw = data[at : at + size]
    kinds: dict[int, Any] = {0x0: raw}
    if code & 0xF:
        kinds = {0x1: raw.decode(), 0x3: Symbol(raw.decode())}
    return kinds[code & 0xF], at + size


def _decode_many(code: int, data: bytes, at: int) -> tuple[Any, int]:
    if code == 0x45:
        return [], at
    small = code >> 4 in (0xC, 0xE)
    size, begin = _size(small, data, at)
    end = begin + size
    count, at = _size(small, data, begin)
    is_array = code >> 4 in (0xE, 0xF)
    if is_array:
        item, at = data[at], at + 1
    values = []
    for _ in range(count):
        value, at = _decode_as(item, data, at) if is_array else decode(data, at)
        values.append(value)
    if code in (0xC1, 0xD1):
        return dict(zip(values[::2], values[1::2], strict=True)), end
    return values, end


def _size(small: bool, data: bytes, at: int) -> tuple[int, int]:  # noqa: FBT001 - the two widths of one field
    return (data[at], at + 1) if small else (struct.unpack_from(">I", data, at)[0], at + 4)


def end_of(data: bytes, at: int) -> int:
    """Return where the value that begins at `at` ends, without decoding it."""
    code = data[at]
    if code == 0x00:
        return end_of(data, end_of(data, at + 1))
    if (width := _FIXED_BYTES.get(code >> 4)) is not None:
        return at + 1 + width
    size, begin = _size(code >> 4 in (0xA, 0xC, 0xE), data, at + 1)
    return begin + size


def encode(value: Any) -> bytes:
    """Return a value on the wire."""
    if value is None or isinstance(value, bool):
        return {None: b"\x40", True: b"\x41", False: b"\x42"}[value]
    if isinstance(value, int):
        code, form = _ENCODED[type(value)]
        return bytes([code]) + struct.pack(form, value)
    if isinstance(value, Symbol):
        return _encode_bytes(0xA3, value.encode("ascii"))
    if isinstance(value, str):
        return _encode_bytes(0xA1, value.encode())
    if isinstance(value, bytes):
        return _encode_bytes(0xA0, value)
    return _encode_compound(value)


def _encode_compound(value: Any) -> bytes:
    if isinstance(value, uuid.UUID):
        return b"\x98" + value.bytes
    if isinstance(value, Described):
        # The client library looks for the code of a performative in its third byte.
        return b"\x00" + (b"\x53" + bytes([value.code])) + encode(value.value)
    if isinstance(value, Timestamps):
        body = b"\x83" + b"".join(struct.pack(">q", each) for each in value)
        return b"\xf0" + struct.pack(">II", len(body) + 4, len(value)) + body
    if isinstance(value, dict):
        return encode_map([encode(each) for pair in value.items() for each in pair])
    if not value:
        return b"\x45"
    body = b"".join(encode(each) for each in value)
    return b"\xd0" + struct.pack(">II", len(body) + 4, len(value)) + body


def encode_map(parts: list[bytes], known: bytes = b"", known_count: int = 0) -> bytes:
    """Return a map of encoded keys and values, after those that are `known` as they stand."""
    body = known + b"".join(parts)
    return b"\xd1" + struct.pack(">II", len(body) + 4, known_count + len(parts)) + body


def map_items(data: bytes) -> tuple[bytes, int]:
    """Return an encoded map's keys and values as they stand, and how many they are."""
    small = data[0] == 0xC1
    _, at = _size(small, data, 1)
    count, at = _size(small, data, at)
    return data[at:], count


def _encode_bytes(code: int, raw: bytes) -> bytes:
    if len(raw) < 256:
        return bytes([code, len(raw)]) + raw
    return bytes([code | 0x10]) + struct.pack(">I", len(raw)) + raw


def performative(code: int, *fields: Any) -> bytes:
    """Return a performative or section of a message; it ends with its last field that is not None."""
    given = list(fields)
    while given and given[-1] is None:
        given.pop()
    return encode(Described(code, given))


def section(code: int, encoded: bytes) -> bytes:
    """Return a section of a message whose value is encoded already."""
    return b"\x00\x53" + bytes([code]) + encoded


def sections(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the code of each section of a message, and its encoded value."""
    at = 0
    while at < len(message):
        code, begin = decode(message, at + 1)
        at = end_of(message, begin)
        yield code, message[begin:at]


def frame(channel: int, body: bytes, kind: int = AMQP) -> bytes:
    """Return a frame."""
    return struct.pack(">IBBH", len(body) + 8, 2, kind, channel) + body


def frames(buffer: bytearray) -> Iterator[tuple[int, int, bytes]]:
    """Take whole frames off a buffer: kind, channel, body. A protocol header has the kind -1."""
    while len(buffer) >= 8:
        if buffer.startswith(PROTOCOL):
            header = bytes(buffer[:8])
            del buffer[:8]
            yield -1, 0, header
            continue
        size, words, kind, channel = struct.unpack_from(">IBBH", buffer)
        if len(buffer) < size:
            return
        body = bytes(buffer[words * 4 : size])
        del buffer[:size]
        if body:  # an empty frame says only that the peer is alive
            yield kind, channel, body
