"""A way in before a server that can be shut, so that connecting to it times out."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLL_SECONDS = 0.02
_FILLERS_MAX = 64
_CHUNK = 64 * 1024


class Turnstile:
    """Passes connections on to a port of this machine."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._shut_until = 0.0
        self._is_shut = threading.Event()
        self._stopping = threading.Event()
        self._fillers: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, name="turnstile", daemon=True)
        self._thread.start()

    def shut(self, seconds: float) -> None:
        """Accept nobody for so long; whoever connects gets no answer, as from a machine that is away."""
        self._is_shut.clear()
        self._shut_until = time.monotonic() + seconds
        self._is_shut.wait(2)

    def open(self) -> None:
        """Accept again."""
        self._shut_until = 0.0

    def close(self) -> None:
        """End it."""
        self._stopping.set()
        self._thread.join(2)
        self._release()
        self._listener.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if time.monotonic() < self._shut_until:
                if not self._is_shut.is_set():
                    self._fill()
                    self._is_shut.set()
                time.sleep(_POLL_SECONDS)
                continue
            self._release()
            if select.select([self._listener], [], [], _POLL_SECONDS)[0]:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _fill(self) -> None:
        """Take every place in the queue of connections to accept: the kernel then answers nobody."""
        if self._fillers:
            return
        self._listener.listen(0)
        for _ in range(_FILLERS_MAX):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._fillers.append(filler)
            if not select.select([], [filler], [], 0.03)[1]:
                return

    def _release(self) -> None:
        if not self._fillers:
            return
        for filler in self._fillers:
            filler.close()
        self._fillers = []
        self._listener.listen(64)

    def _pass_on(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as server:
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                ready = select.select([client, server], [], [])[0]
                for side in ready:
                    try:
                        data = side.recv(_CHUNK)
                    except ConnectionError:
                        # Pass the reset on, too.
                        for each in (client, server):
                            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return
                    if not data:
                        return
                    (server if side is client else client).sendall(data)


@contextmanager
def before(port: int) -> Iterator[Turnstile]:
    """Serve a turnstile before a port until the `with` ends."""
    turnstile = Turnstile(port)
    try:
        yield turnstile
    finally:
        turnstile.close()
