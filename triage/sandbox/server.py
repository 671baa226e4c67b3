"""The played organisation over HTTP: the front door, authentication, versions, ledger and faults."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, Response

from triage.errors import TriageError, UsageError
from triage.sandbox import (
    builds,
    connections,
    directory,
    environments,
    faults,
    git,
    library,
    locations,
    pages,
    pools,
    processes,
    queries,
    releases,
    security,
    subscriptions,
    work_items,
)
from triage.sandbox.answers import Call, Refusal
from triage.sandbox.directory import project_named
from triage.sandbox.organisation import Fault, Organisation, sleep, wire_time
from triage.sandbox.tokens import Token, presented
from triage.sandbox.versions import check_version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from triage.sandbox.answers import Routes

_WRITES = {"POST", "PUT", "PATCH", "DELETE"}
_READS_BY_POST = {"wiql", "batch", "artifacts", "endpoint proxy", "evaluations", "preview"}
_START_SECONDS = 10.0
_MODULES = (
    builds,
    connections,
    directory,
    environments,
    git,
    library,
    pools,
    processes,
    queries,
    releases,
    security,
    subscriptions,
    work_items,
)
_ROUTES: Routes = {name: methods for module in _MODULES for name, methods in module.ROUTES.items()}
_SIGN_IN = (
    "<!DOCTYPE html><html><head><title>Azure DevOps Services | Sign In</title></head><body></body></html>"
)


@dataclass
class Played:
    """A played organisation that is being served."""

    url: str
    organisation: Organisation
    token: str


@contextmanager
def serve(
    organisation: Organisation,
    *,
    token: str,
    port: int = 0,
    host: str = "127.0.0.1",
    certificate: Path | None = None,
) -> Iterator[Played]:
    """Serve an organisation until the `with` ends. Raises UsageError on a busy port.

    At another address than this machine's own it needs a certificate (PEM, with its key): triage sends
    its token nowhere else without TLS.
    """
    listener = _listen(host, port)
    scheme = "https" if certificate else "http"
    organisation.url = f"{scheme}://{host}:{listener.getsockname()[1]}/{organisation.name}"
    config = uvicorn.Config(
        _Abortable(create_app(organisation, token)),
        log_level="warning",
        log_config=None,
        access_log=False,
        date_header=False,  # the organisation has a clock of its own
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=2,
        ssl_certfile=certificate,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="played-organisation", daemon=True)
    thread.start()
    waited = 0.0
    while not server.started and thread.is_alive() and waited < _START_SECONDS:
        sleep(0.01)
        waited += 0.01
    if not server.started:
        raise TriageError("The played organisation did not start; the lines above say why.")
    try:
        yield Played(organisation.url, organisation, token)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    # Named as TCP, asyncio sends each part of an answer at once: else each takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"The played organisation cannot listen on port {port} of {host}: {error.strerror}. "
            "Stop what uses the port, or name another; 0 picks a free one."
        ) from None
    return listener


class _Abortable:
    """Gives every request a way to break its connection, as a failing network does."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["transport"] = getattr(getattr(send, "__self__", None), "transport", None)
        await self._app(scope, receive, send)


def create_app(organisation: Organisation, token: str) -> FastAPI:
    """Return the application that plays the organisation."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    front = _Front(organisation, token)

    @app.get("/_ledger")
    def ledger() -> list[dict[str, Any]]:
        with organisation.lock:
            return list(organisation.ledger)

    @app.get("/_signin")
    def sign_in() -> HTMLResponse:
        organisation.sign_in_visits += 1
        return HTMLResponse(_SIGN_IN)

    app.include_router(pages.router(organisation))

    @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    async def api(request: Request) -> Response:
        body = await request.body()
        fault = front.fault(request)
        response = await run_in_threadpool(front.answer, request, body, fault)
        if response is not None and not (fault and fault.wire):
            now = time.time() + organisation.clock_ahead_seconds
            response.headers.setdefault("Date", formatdate(now, usegmt=True))
            return response
        await faults.send(request.scope["transport"], fault or Fault("", ""), response)
        return Response()

    return app


class _Front:
    """What every request meets before and after its API."""

    def __init__(self, organisation: Organisation, token: str) -> None:
        self.organisation = organisation
        organisation.tokens.setdefault(token, Token())

    def answer(self, request: Request, body: bytes, fault: Fault | None) -> Response | None:
        """Answer a request; None breaks the connection."""
        with self.organisation.lock:
            wait = self.organisation.budget.refuses() if self.organisation.budget else 0
        if wait:
            return Response(status_code=429, headers={"Retry-After": str(wait)})
        if fault is None:
            return self._done(request, body)
        sleep(fault.delay_seconds)
        if fault.unreachable_seconds:
            self.organisation.shut(fault.unreachable_seconds)
        if fault.drop or fault.wire in {"reset", "hang", "unreachable"}:
            return None
        if fault.status is not None:
            return Response(fault.body, fault.status, fault.headers)
        response = self._done(request, body)
        response.headers.update(fault.more_headers)
        if fault.replaced is not None:
            return Response(fault.replaced, 200, media_type=response.headers.get("content-type"))
        return None if fault.lose_reply else response

    def _done(self, request: Request, body: bytes) -> Response:
        token = self._token(request)
        return self._signed_out(token) or self._served(request, _path(request), body, token or Token())

    def fault(self, request: Request) -> Fault | None:
        """Return what is to go wrong with this request."""
        path = unquote(_path(request))
        with self.organisation.lock:
            self.organisation.asked.append((request.method, path))
            for fault in self.organisation.faults:
                fits = fault.method == request.method and re.search(fault.path, path, re.IGNORECASE)
                if fits and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def _token(self, request: Request) -> Token | None:
        kind, secret = presented(request.headers.get("authorization", ""))
        token = self.organisation.tokens.get(secret)
        return token if token and token.valid and token.kind == kind else None

    def _signed_out(self, token: Token | None) -> Response | None:
        if self.organisation.sign_in_page == "203":
            return HTMLResponse(_SIGN_IN, 203)
        if self.organisation.sign_in_page == "302":
            host = urlsplit(self.organisation.url).netloc
            return Response(
                status_code=302, headers={"Location": f"http://{host}/_signin?realm=dev.azure.com"}
            )
        if token is None:
            realm = {"WWW-Authenticate": 'Basic realm="https://tfsprodweu.visualstudio.com/"'}
            return HTMLResponse("", 401, realm)
        return None

    def _served(self, request: Request, path: str, body: bytes, token: Token) -> Response:
        with self.organisation.lock:
            api = ""
            try:
                location, values = self._located(request, path)
                if location is None:
                    return JSONResponse(locations.listing())
                api = location.name
                self.organisation.calls[api] += 1
                response = self._handled(request, location, values, body, token)
            except Refusal as refusal:
                response = refusal.response()
            if request.method in _WRITES and api not in _READS_BY_POST:
                self._enter(request, unquote(path), body, response)
            return response

    def _located(self, request: Request, path: str) -> tuple[locations.Location | None, dict[str, str]]:
        """Return the API that a path leads to; none for the list of all of them."""
        own = self.organisation.name.count("/") + 1  # a server's collection is named by two steps
        steps = _steps(request.headers.get("host", ""), path)
        first, rest = unquote("/".join(steps[:own])), "/".join(steps[own:])
        if first.lower() != self.organisation.name.lower():
            raise Refusal(404, f"The organisation {first} does not exist.", "HostNotFoundException")
        if rest.lower() == "_apis" and request.method == "OPTIONS":
            return None, {}
        found = locations.find(rest)
        if found is None:
            raise Refusal(
                404,
                f"The controller for path '/{unquote(path)}' was not found or does not implement IController.",
                "HttpException",
            )
        return found

    def _handled(
        self,
        request: Request,
        location: locations.Location,
        values: dict[str, str],
        body: bytes,
        token: Token,
    ) -> Response:
        query = {key.lower(): value for key, value in request.query_params.items()}
        check_version(location, request.method, query.get("api-version"), request.headers.get("accept", ""))
        if not token.allows(location.name, writes=request.method in _WRITES):
            # Whether the service says 401 or 403 of a missing scope is not documented.
            raise Refusal(
                401,
                "TF400813: The user is not authorized to access this resource.",
                "UnauthorizedRequestException",
            )
        found = project_named(self.organisation, values["project"]) if "project" in values else None
        handler = _ROUTES[location.name].get(request.method)
        if handler is None:
            message = f"The requested resource does not support http method '{request.method}'."
            return JSONResponse({"count": 1, "value": {"Message": message}}, 405)
        return handler(
            Call(self.organisation, request.method, values, query, request.headers, body, found, token)
        )

    def _enter(self, request: Request, path: str, body: bytes, response: Response) -> None:
        said, answer = _read(body), _read(bytes(response.body))
        self.organisation.ledger.append(
            {
                "at": wire_time(),
                "method": request.method,
                "path": "/" + path,
                "query": dict(request.query_params),
                "content_type": request.headers.get("content-type", ""),
                "body": said,
                "status": response.status_code,
                "answer_id": answer.get("id") if isinstance(answer, dict) else None,
            }
        )


def _path(request: Request) -> str:
    """Return the path as it was sent, without what follows it."""
    path: bytes = request.scope["raw_path"]
    return path.decode("ascii", "replace").split("?")[0].lstrip("/")


def _steps(host: str, path: str) -> list[str]:
    """Return a path's steps from the organisation on, which the old hosts have in their name instead."""
    steps = path.split("/")
    if not host.endswith(".visualstudio.com"):
        return steps
    return [
        host.split(".", maxsplit=1)[0],
        *(steps[1:] if steps[0].lower() == "defaultcollection" else steps),
    ]


def _read(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode("utf-8", "replace")
