"""The played Service Bus itself: it listens, checks tokens, and fails when it is told to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, unquote

from triage.sandbox.bus import wire
from triage.sandbox.bus.connection import Connection
from triage.sandbox.bus.queues import Queue, RefusedError

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Sequence
    from typing import Self

    from triage.sandbox.bus.queues import Outcome

T = TypeVar("T")

_SWEEP_SECONDS = 0.05


class Broker:
    """A namespace of queues, served in a thread of its own while it is entered.

    It fails on demand: `refuse_sends` (an AMQP condition, while it is set), `before_settle` (returns
    False to swallow a client's word), `cut_transfers` (of so many messages half is handed out, then the
    connection breaks), `is_mute` (connections are taken, nothing is answered), `drop_connections`,
    `lose_locks`, Queue.copies, and leaving it, after which it may be entered again.
    """

    def __init__(self, *queues: Queue, port: int = 0, address: str = "127.0.0.1") -> None:
        self.queues = {queue.name.lower(): queue for queue in queues}
        self.port = port
        self.address = address
        self.key_name, self.key = "RootManageSharedAccessKey", secrets.token_urlsafe(32)
        self.tokens: dict[str, float] = {}  # of Entra, that are accepted, and when they end
        self.presented: list[str] = []  # tokens and signatures, as they came
        self.max_message_bytes = 1024 * 1024
        self.refuse_sends = ""
        self.before_settle: Callable[[str, Outcome], bool] | None = None
        self.cut_transfers = 0
        self.is_mute = False
        self.connections: set[Connection] = set()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: threading.Thread | None = None

    @property
    def host(self) -> str:
        """Return the host with its port, as a namespace is named."""
        return f"{self.address}:{self.port}"

    @property
    def connection_string(self) -> str:
        """Return what lets a client in. Its last part makes the client library speak without TLS."""
        return (
            f"Endpoint=sb://{self.host};SharedAccessKeyName={self.key_name};SharedAccessKey={self.key};"
            "UseDevelopmentEmulator=true;"
        )

    def __enter__(self) -> Self:
        """Listen, on the same port as before if there was one."""
        ready = threading.Event()
        self.thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(ready)), name="played-service-bus", daemon=True
        )
        self.thread.start()
        if not ready.wait(10):
            raise RuntimeError(f"The played Service Bus cannot listen on {self.host}.")
        return self

    def __exit__(self, *_: object) -> None:
        """Drop everybody and listen no more; messages stay."""
        if self.loop is not None and self.thread is not None:
            self.loop.call_soon_threadsafe(self.stopping.set)
            self.thread.join(10)
            self.loop = None

    def do(self, work: Callable[[], T]) -> T:
        """Run something in the broker's own thread and return its result."""
        if self.loop is None:  # nobody else is at it
            return work()

        async def done() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(10)

    def drop_connections(self) -> None:
        """Reset every client's connection."""
        self.do(self.abort)

    def lose_locks(self, queue: str) -> None:
        """Let every lock on a queue's messages run out now."""
        self.do(lambda: self.queues[queue.lower()].expire(everything=True))

    def add(self, queue: Queue) -> Queue:
        """Serve one more queue."""
        self.do(lambda: self.queues.update({queue.name.lower(): queue}))
        return queue

    def find(self, path: str) -> Queue:
        """Return a queue or its dead letters. Raises RefusedError."""
        name, _, sub = path.lower().partition("/$")
        queue = self.queues.get(name)
        if queue is not None and sub == "deadletterqueue":
            queue = queue.dead_letters
        if queue is None:
            raise RefusedError("amqp:not-found", f"The messaging entity '{path}' could not be found.", 404)
        return queue

    def put(self, queue: Queue, sent: Sequence[bytes]) -> None:
        """Put what a client has sent. Raises RefusedError."""
        if self.refuse_sends:
            raise RefusedError(self.refuse_sends, "Told to refuse.", 503)
        for each in sent:
            queue.put(wire.read(each))

    def may_settle(self, queue: Queue, token: uuid.UUID, outcome: Outcome) -> bool:  # noqa: ARG002
        """Return False when a client's word is to be swallowed."""
        return self.before_settle is None or self.before_settle(queue.name, outcome)

    def trusts_until(self, token: str) -> float:
        """Return when a token of Entra that is known, or a signature made with the key, ends; else 0."""
        self.presented.append(token)
        if not token.startswith("SharedAccessSignature "):
            return self.tokens.get(token, 0.0)
        given = {name: values[0] for name, values in parse_qs(token.split(" ", 1)[1]).items()}
        signed = token.split("sr=", 1)[1].split("&", 1)[0] + "\n" + given["se"]
        right = base64.b64encode(hmac.digest(self.key.encode(), signed.encode(), hashlib.sha256)).decode()
        is_right = given["skn"] == self.key_name and unquote(given["sig"]) == right
        return float(given["se"]) if is_right else 0.0

    def abort(self) -> None:
        """Reset every connection; to be called in the broker's own thread."""
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.abort()

    async def _serve(self, ready: threading.Event) -> None:
        self.loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        server: Any = await self.loop.create_server(lambda: Connection(self), self.address, self.port)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        while not self.stopping.is_set():
            for queue in self.queues.values():
                queue.expire()
            for connection in list(self.connections):
                if 0 < connection.trusted_until <= time.time() and connection.transport is not None:
                    connection.transport.abort()
            try:
                await asyncio.wait_for(self.stopping.wait(), _SWEEP_SECONDS)
            except TimeoutError:
                continue
        server.close()
        self.abort()
