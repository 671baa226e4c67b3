"""The played organisation at Azure DevOps' own names, over TLS: a proxy whose every host is played here.

Whoever sends through it, and trusts its certificate, talks to https://dev.azure.com/contoso, to
https://contoso.visualstudio.com and to the hosts of their areas, and nothing leaves this machine.
"""

from __future__ import annotations

import re
import selectors
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

from triage.sandbox.entra import certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from triage.sandbox.server import Played

_NAMES = ("dev.azure.com", "*.dev.azure.com", "*.visualstudio.com", "*.vsrm.visualstudio.com")
_CONNECT = re.compile(rb"CONNECT ([a-z0-9.-]+):443 HTTP/1\.[01]\r\n", re.IGNORECASE)
_HEAD_MAX, _CHUNK = 16 * 1024, 64 * 1024


@dataclass
class Hosts:
    """A proxy at which the service's names are answered."""

    proxy: str = ""  # HTTPS_PROXY
    ca_file: str = ""  # REQUESTS_CA_BUNDLE
    asked: set[str] = field(default_factory=set)  # the names that were connected to

    @property
    def environment(self) -> dict[str, str]:
        """Return what a process needs to send through it."""
        return {"HTTPS_PROXY": self.proxy, "NO_PROXY": "127.0.0.1", "REQUESTS_CA_BUNDLE": self.ca_file}


@contextmanager
def serve(played: Played, folder: Path) -> Iterator[Hosts]:
    """Answer for the service's names until the `with` ends; `folder` takes the certificate."""
    made, pem = certificate(*_NAMES)
    (folder / "hosts.pem").write_bytes(pem)
    (folder / "hosts-ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "hosts.pem")
    hosts = Hosts(ca_file=str(folder / "hosts-ca.pem"))
    port = int(played.url.split(":")[2].split("/")[0])
    handler = type("Handler", (_Tunnel,), {"hosts": hosts, "tls": tls, "port": port})
    with ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        hosts.proxy = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield hosts
        finally:
            server.shutdown()


class _Tunnel(BaseRequestHandler):
    """Ends a tunnel's TLS here, as the host that was asked for, and hands on what is said."""

    hosts: Hosts
    tls: ssl.SSLContext
    port: int

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head and len(head) < _HEAD_MAX:
            more = self.request.recv(_CHUNK)
            if not more:
                return
            head += more
        wanted = _CONNECT.match(head)
        if wanted is None:
            self.request.sendall(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            return
        self.hosts.asked.add(wanted[1].decode().lower())
        self.request.sendall(b"HTTP/1.1 200 Connection Established\r\n\r\n")
        with (
            suppress(OSError),
            self.tls.wrap_socket(self.request, server_side=True) as theirs,
            socket.create_connection(("127.0.0.1", self.port)) as ours,
        ):
            _pass_on(theirs, ours)


def _pass_on(theirs: ssl.SSLSocket, ours: socket.socket) -> None:
    """Hand on what either side says until one of them has ended."""
    with selectors.DefaultSelector() as ready:
        ready.register(theirs, selectors.EVENT_READ, ours)
        ready.register(ours, selectors.EVENT_READ, theirs)
        while True:
            for key, _ in ready.select():
                said = key.fileobj.recv(_CHUNK)  # type: ignore[union-attr]
                while said:
                    key.data.sendall(said)
                    # What TLS has read ahead makes no socket ready.
                    said = theirs.recv(_CHUNK) if key.fileobj is theirs and theirs.pending() else None
                if said == b"":
                    return
