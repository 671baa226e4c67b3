"""Bad answers: what a service, a proxy or a network may do to a request, each by its name."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import time
from email.utils import formatdate
from functools import cache
from typing import TYPE_CHECKING, Any

from triage.sandbox.organisation import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi.responses import Response

_JSON = {"Content-Type": "application/json; charset=utf-8"}
_HTML = {"Content-Type": "text/html; charset=utf-8"}
_SIGN_IN = b"<!DOCTYPE html><html><head><title>Azure DevOps Services | Sign In</title></head></html>"
_MARKDOWN_REFUSED = (
    b'{"$id":"1","message":"The path /multilineFieldsFormat/System.Description is not valid.",'
    b'"typeKey":"VssPropertyValidationException","errorCode":0}'
)
_CHANGED = (
    b'{"$id":"1","message":"TF26071: This work item has been changed by someone else since you opened it.",'
    b'"typeKey":"RuleValidationException","errorCode":600171}'
)
_BOMB_BYTES = 1024 * 1024 * 1024
_POLL_SECONDS = 0.02


@cache
def _bomb() -> bytes:
    """Return a gigabyte of blanks in a megabyte."""
    return gzip.compress(b" " * (_BOMB_BYTES // 64), 9, mtime=0) * 64


def _date_ahead() -> dict[str, str]:
    return {"Retry-After": formatdate(time.time() + 2, usegmt=True)}


# Each makes a fault of a method and a path; seconds are for tests, which have no minutes.
ANSWERS: dict[str, Callable[[str, str], Fault]] = {
    "429, seconds": lambda method, path: Fault(method, path, status=429, headers={"Retry-After": "1"}),
    "429, date": lambda method, path: Fault(method, path, status=429, headers=_date_ahead()),
    "429": lambda method, path: Fault(method, path, status=429),
    "200, delayed": lambda method, path: Fault(
        method, path, delay_seconds=0.2, more_headers={"Retry-After": "1", "X-RateLimit-Delay": "0.2"}
    ),
    "500": lambda method, path: Fault(method, path, status=500),
    "502": lambda method, path: Fault(
        method, path, status=502, headers=_HTML, body=b"<html><h1>502 Bad Gateway</h1></html>"
    ),
    "503": lambda method, path: Fault(method, path, status=503),
    "401": lambda method, path: Fault(method, path, status=401),
    "203, sign-in page": lambda method, path: Fault(method, path, status=203, headers=_HTML, body=_SIGN_IN),
    "302, sign-in page": lambda method, path: Fault(
        method, path, status=302, headers={"Location": "/_signin?realm=dev.azure.com"}
    ),
    "404": lambda method, path: Fault(method, path, status=404),
    "400, no Markdown": lambda method, path: Fault(
        method, path, status=400, headers=_JSON, body=_MARKDOWN_REFUSED
    ),
    "409": lambda method, path: Fault(method, path, status=409, headers=_JSON, body=_CHANGED),
    "412": lambda method, path: Fault(method, path, status=412, headers=_JSON, body=_CHANGED),
    "empty": lambda method, path: Fault(method, path, replaced=b""),
    "garbage": lambda method, path: Fault(method, path, replaced=b'\x00{"value": [garbage'),
    "wrong type": lambda method, path: Fault(
        method, path, status=200, headers=_JSON, body=b'{"id": "x", "count": 1, "value": {"is": "no list"}}'
    ),
    "truncated": lambda method, path: Fault(method, path, wire="truncated"),
    "wrong length": lambda method, path: Fault(method, path, wire="wrong length"),
    "gzip bomb": lambda method, path: Fault(
        method,
        path,
        status=200,
        headers={"Content-Type": "text/plain" if "logs" in path else "application/json"}
        | {"Content-Encoding": "gzip"},
        body=_bomb(),
    ),
    "a byte a second": lambda method, path: Fault(method, path, wire="trickle"),
    "connect time-out": lambda method, path: Fault(method, path, wire="unreachable", unreachable_seconds=0.6),
    "reset": lambda method, path: Fault(method, path, wire="reset"),
    "endless continuation": lambda method, path: Fault(
        method, path, more_headers={"X-MS-ContinuationToken": "1"}
    ),
    "done, reply lost": lambda method, path: Fault(method, path, lose_reply=True),
    "hangs": lambda method, path: Fault(method, path, wire="hang"),
}


def make(answer: str, method: str, path: str, *, always: bool = False) -> Fault:
    """Return the fault that gives this answer to the next call that fits, or to all of them."""
    fault = ANSWERS[answer](method, path)
    fault.times = 1_000_000_000 if always else 1
    return fault


async def send(transport: Any, fault: Fault, response: Response | None) -> None:
    """Send an answer as a broken network does, byte for byte, and end the connection."""
    if fault.wire == "hang":
        await _wait_until_gone(transport)
    elif fault.wire in {"reset", "unreachable"} or response is None:
        # Without lingering, closing resets the connection.
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        transport.abort()
    else:
        await _send_badly(transport, fault.wire, response)
        transport.close()
    await asyncio.sleep(0.05)  # let the loop notice, so that nothing else is sent


async def _send_badly(transport: Any, how: str, response: Response) -> None:
    body = bytes(response.body)
    kind = response.headers.get("content-type", "application/json")
    head = f"HTTP/1.1 {response.status_code} Played\r\nContent-Type: {kind}\r\n"
    if how == "truncated":
        half = body[: max(len(body) // 2, 1)]
        transport.write(f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body) + 1:x}\r\n".encode() + half)
    elif how == "wrong length":
        transport.write(f"{head}Content-Length: {len(body) + 100}\r\n\r\n".encode() + body)
    else:  # a trickle, from the first byte on
        for byte in f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body:
            transport.write(bytes([byte]))
            for _ in range(int(1 / _POLL_SECONDS)):
                if transport.is_closing():
                    return
                await asyncio.sleep(_POLL_SECONDS)


async def _wait_until_gone(transport: Any) -> None:
    while not transport.is_closing():  # noqa: ASYNC110 - a transport tells nobody that it closes
        await asyncio.sleep(_POLL_SECONDS)
