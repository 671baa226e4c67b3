"""Who tells the hook of events as Azure DevOps does, over a connection that is kept."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

PASSWORD = "the hook's own"
_LOGIN = base64.b64encode(f"triage:{PASSWORD}".encode()).decode()


async def post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> int:
    """Tell the hook of an event. Returns the status of its answer."""
    writer.write(
        b"POST /hooks/azure-devops HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        + f"Authorization: Basic {_LOGIN}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    await reader.readexactly(int(head.split("content-length:", 1)[1].split("\r\n", 1)[0]))
    return int(head.split(" ", 2)[1])
