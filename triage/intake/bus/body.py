"""What a message of Azure DevOps' Service Bus consumer holds: JSON, often wrapped in binary XML. Pure.

By default the consumer writes the JSON as .NET's DataContractSerializer writes a string: an element
`string` in MC-NBFX, Microsoft's binary XML. With `bypassSerializer` it writes the JSON as it is.
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"
_ELEMENT = b"\x40\x06string"  # ShortElement, the length of its name, its name
_XMLNS, _END = 0x08, 0x01
_TEXT_LENGTH_BYTES = {0x98: 1, 0x9A: 2, 0x9C: 4}  # Chars8, Chars16, Chars32; one more: the element ends
_EMPTY_TEXT = 0xA8


def unwrap(body: bytes) -> bytes:
    """Return the JSON of a message; never raises, and returns what it cannot make out as it is."""
    body = body.removeprefix(_BOM)
    if not body.startswith(_ELEMENT):
        return body
    try:
        return _text(body, len(_ELEMENT)).removeprefix(_BOM)
    except (IndexError, ValueError):
        # Written differently than we know it: an event is one JSON object, so cut that out.
        return body[body.find(b"{") : body.rfind(b"}") + 1] or body


def _text(body: bytes, at: int) -> bytes:
    """Return the text of the element whose content begins at `at`. Raises IndexError or ValueError."""
    texts: list[bytes] = []
    while True:
        record, at = body[at], at + 1
        if record == _END:
            return b"".join(texts)
        if record == _XMLNS:
            size, at = _length(body, at)
            at += size
            continue
        kind, ends = record & ~1, bool(record & 1)
        if kind != _EMPTY_TEXT:
            if kind not in _TEXT_LENGTH_BYTES:
                raise ValueError(f"no text: record {record:#x}")
            width = _TEXT_LENGTH_BYTES[kind]
            size = int.from_bytes(body[at : at + width], "little")
            at += width
            if at + size > len(body):
                raise ValueError("the text breaks off")
            texts.append(body[at : at + size])
            at += size
        if ends:
            return b"".join(texts)


def _length(body: bytes, at: int) -> tuple[int, int]:
    """Return a length of seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte, at = body[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the highest bit says that another byte follows
            return value, at
        shift += 7
