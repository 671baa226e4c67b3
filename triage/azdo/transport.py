"""The SDK's client, with every answer bounded in time and size.

A read timeout bounds the silence between two bytes, not an answer that comes a byte at a time; so a
deadline cuts the connection, whatever is being waited for: the handshake, the headers or the body.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec
from azure.devops.client import Client
from msrest.universal_http import ClientRequest
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from triage.errors import RetryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from triage.azdo.limits import Limits

_CHUNK = 64 * 1024


class Deadline:
    """Cuts the connection of a request that takes too long. End it in any case."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._timer = self._started(seconds)

    def renew(self, seconds: float) -> None:
        """Begin anew, with so many seconds from now."""
        self._timer.cancel()
        self._timer = self._started(seconds)

    def watch(self, connection: socket.socket) -> None:
        """Name the connection to cut. A handle of our own stays valid when TLS takes the socket over."""
        handle = socket.fromfd(connection.fileno(), connection.family, connection.type)
        with self._lock:
            self._drop()
            self._handle = handle
            if self.passed:
                self._shut()

    def end(self) -> None:
        """Cut nothing any more."""
        self._timer.cancel()
        with self._lock:
            self._drop()

    def _started(self, seconds: float) -> threading.Timer:
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        return timer

    def _cut(self) -> None:
        with self._lock:
            self.passed = True
            self._shut()

    def _shut(self) -> None:
        if self._handle is not None:
            with suppress(OSError):  # the other side was quicker
                self._handle.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None


_current: ContextVar[Deadline | None] = ContextVar("_current", default=None)


def _watch(connection: socket.socket | None) -> None:
    deadline = _current.get()
    if deadline is not None and connection is not None:
        deadline.watch(connection)


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        _watch(made)
        return made

    def request(self, *args: Any, **keywords: Any) -> None:
        _watch(self.sock)
        super().request(*args, **keywords)


class _SecureConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        _watch(made)
        return made

    def request(self, *args: Any, **keywords: Any) -> None:
        _watch(self.sock)
        super().request(*args, **keywords)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _Pool, "https": _SecurePool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **keywords: Any) -> None:
        super().init_poolmanager(*args, **keywords)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **keywords: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **keywords)
        manager.pool_classes_by_scheme = _POOLS
        return manager


def _no_redirects(*_: Any, **__: Any) -> Iterator[Any]:
    return iter(())


class BoundedClient(Client):  # type: ignore[misc]
    """The SDK's client for one base URL. `exchange` sends each of its requests."""

    def __init__(
        self,
        base_url: str,
        credentials: Any,
        limits: Limits,
        exchange: Callable[[BoundedClient, Any, Mapping[str, str], Any], Any],
    ) -> None:
        super().__init__(base_url, credentials)
        self.config.redirect_policy.allow = False  # a redirect could carry our token elsewhere
        self.config.retry_policy.policy.total = 0  # the worker retries, without holding a thread
        self.config.retry_policy.policy.status_forcelist = frozenset()
        self.config.retry_policy.policy.respect_retry_after_header = False
        self.config.connection.timeout = (limits.connect_seconds, limits.silence_seconds)
        self._exchange = exchange
        self._known: dict[str, Any] = {}

    def exchange_once(
        self, request: Any, headers: Mapping[str, str], content: Any, deadline: Deadline
    ) -> Any:
        """Send a request and return its answer's head; the body is still to be read."""
        session = self.config.pipeline._sender.driver.session  # noqa: SLF001 - one for each thread
        if not isinstance(session.get_adapter(self.normalized_url), _Adapter):
            for scheme in ("http://", "https://"):
                session.mount(scheme, _Adapter(max_retries=self.config.retry_policy()))
            # None is followed; msrest's own stumbles over one that answers a write.
            session.resolve_redirects = _no_redirects
        token = _current.set(deadline)
        try:
            return self._client.send(request=request, headers=dict(headers), content=content)
        finally:
            _current.reset(token)

    def _send_request(
        self, request: Any, headers: Any = None, content: Any = None, media_type: Any = None, **_: Any
    ) -> Any:
        """Take the place of the SDK's own, which reads any answer whole to log it."""
        del media_type
        return self._exchange(self, request, headers or {}, content)

    def _get_resource_location(self, url: str, location_id: str) -> Any:
        """Return where an API is. The SDK's own would keep a broken list for good, even on disk."""
        if url != self.normalized_url:
            return None
        if not self._known:
            self._known = self._locations_now()
        return self._known.get(location_id.lower())

    def _locations_now(self) -> dict[str, Any]:
        request = ClientRequest(
            method="OPTIONS", url=self._client.format_url(self._combine_url(self.normalized_url, "_apis"))
        )
        headers = {
            "Accept": "application/json",
            "X-TFS-FedAuthRedirect": "Suppress",
            "X-VSS-ForceMsaPassThrough": "true",
        }
        body = decoded(self._send_request(request, headers))
        listed = body.get("value") if isinstance(body, dict) else None
        if not (isinstance(listed, list) and listed and all(_is_location(each) for each in listed)):
            raise RetryLater("Azure DevOps does not list its APIs as triage knows it; trying again.")
        return {each.id.lower(): each for each in self._base_deserialize("[ApiResourceLocation]", listed)}


def _is_location(each: Any) -> bool:
    return isinstance(each, dict) and all(isinstance(each.get(k), str) for k in ("id", "routeTemplate"))


def read(response: Any, deadline: Deadline, most: int) -> bool:
    """Read an answer whole, so that it can be asked for its `content`. False when it is too large."""
    kept = bytearray()
    try:
        for chunk in response.iter_content(_CHUNK):
            kept += chunk
            if len(kept) > most:
                return False
            if deadline.passed:
                break
    finally:
        response.close()
    response._content = bytes(kept)  # noqa: SLF001 - where requests keeps what it has read itself
    return True


def _is_deletion(response: Any) -> bool:
    """Return whether something was deleted: some of that is answered with 200, and nothing."""
    return bool(response.request.method == "DELETE" and not response.content.strip())


def decoded(response: Any) -> Any:
    """Return the JSON of an answer that was read; None when there is no content by its own word.

    Raises RetryLater when it is empty or no JSON.
    """
    if response.status_code == 204 or _is_deletion(response):  # noqa: PLR2004 - No Content
        return None
    if not response.content.strip():
        raise RetryLater("Azure DevOps sent an empty answer; trying again.")
    try:
        return msgspec.json.decode(response.content)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RetryLater(f"Azure DevOps sent an answer that is no JSON ({error}); trying again.") from None
