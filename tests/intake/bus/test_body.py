"""Every form in which an event may lie in a message."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triage.intake.bus.body import unwrap
from triage.sandbox.service_bus import serialized


@pytest.mark.parametrize("merged_end", [True, False])
@pytest.mark.parametrize("length", [0, 3, 255, 256, 65535, 65536, 70000])
def test_a_string_of_dot_net_is_unwrapped(length: int, merged_end: bool) -> None:  # noqa: FBT001
    text = '{"é":"' + "x" * length + '"}'
    assert unwrap(serialized(text, merged_end=merged_end)) == text.encode()


def test_the_bytes_are_those_that_dot_net_writes() -> None:
    # [MC-NBFX] 2.2: 40 short element, 08 short xmlns, 99 chars with 8 bits of length and the end.
    namespace = b"http://schemas.microsoft.com/2003/10/Serialization/"
    assert serialized("{}") == b"\x40\x06string\x08\x33" + namespace + b"\x99\x02{}"


@pytest.mark.parametrize("body", [b'{"a": 1}', b'\xef\xbb\xbf{"a": 1}', serialized('\ufeff{"a": 1}')])
def test_plain_json_and_byte_order_marks_are_understood(body: bytes) -> None:
    assert json.loads(unwrap(body)) == {"a": 1}


def test_several_texts_are_one() -> None:
    head = serialized("")[:-2]
    assert unwrap(head + b'\x98\x03{"a\xa8\x9b\x04\x00":1}') == b'{"a":1}'


@pytest.mark.parametrize(
    "body",
    [
        b'\x40\x06string\x08\x00\xb6{"a": 1}\x01',  # a record that is not known
        b'\x40\x06string\x99\xff{"a": 1}',  # a text that breaks off
        b'\x40\x06string{"a": 1}',
    ],
)
def test_an_unknown_way_to_wrap_still_shows_its_object(body: bytes) -> None:
    assert unwrap(body) == b'{"a": 1}'


@given(st.binary(max_size=80))
def test_nothing_breaks_it(noise: bytes) -> None:
    unwrap(noise)
    unwrap(b"\x40\x06string" + noise)
