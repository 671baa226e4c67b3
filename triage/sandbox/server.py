"""The played organisation over HTTP: the front door, authentication, versions, ledger and faults."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
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
    git,
    library,
    locations,
    pages,
    processes,
    queries,
    releases,
    subscriptions,
    work_items,
)
from triage.sandbox.answers import Call, Refusal
from triage.sandbox.directory import project_named
from triage.sandbox.organisation import Organisation, sleep, wire_time
from triage.sandbox.versions import check_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send

    from triage.sandbox.answers import Routes
    from triage.sandbox.organisation import Fault

_WRITES = {"POST", "PUT", "PATCH", "DELETE"}
_READS_BY_POST = {"wiql", "batch", "artifacts", "preview"}
_START_SECONDS = 10.0
_MODULES = (
    builds,
    connections,
    directory,
    git,
    library,
    processes,
    queries,
    releases,
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
def serve(organisation: Organisation, *, token: str, port: int = 0) -> Iterator[Played]:
    """Serve an organisation on this machine until the `with` ends. Raises UsageError on a busy port."""
    listener = _listen(port)
    organisation.url = f"http://127.0.0.1:{listener.getsockname()[1]}/{organisation.name}"
    config = uvicorn.Config(
        _Abortable(create_app(organisation, token)),
        log_level="warning",
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=2,
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


def _listen(port: int) -> socket.socket:
    # Of a socket that does not name TCP, asyncio does not know that answers must not wait 40 ms for more.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"The played organisation cannot listen on port {port} of this machine: {error.strerror}. "
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
        response = await run_in_threadpool(front.answer, request, body)
        if response is not None:
            return response
        request.scope["transport"].abort()
        await asyncio.sleep(0.05)  # let the loop notice, so that nothing is sent after all
        return Response()

    return app


class _Front:
    """What every request meets before and after its API."""

    def __init__(self, organisation: Organisation, token: str) -> None:
        self.organisation = organisation
        self.expected = "Basic " + base64.b64encode(f":{token}".encode()).decode()

    def answer(self, request: Request, body: bytes) -> Response | None:
        """Answer a request; None breaks the connection."""
        path = request.scope["raw_path"].decode("ascii", "replace").split("?")[0].lstrip("/")
        fault = self._fault(request.method, unquote(path))
        if fault:
            sleep(fault.delay_seconds)
            if fault.drop:
                return None
            if fault.status is not None:
                return Response(fault.body, fault.status, fault.headers)
        response = self._unauthenticated(request) or self._served(request, path, body)
        return None if fault and fault.lose_reply else response

    def _fault(self, method: str, path: str) -> Fault | None:
        with self.organisation.lock:
            for fault in self.organisation.faults:
                if fault.times > 0 and fault.method == method and re.search(fault.path, path, re.IGNORECASE):
                    fault.times -= 1
                    return fault
        return None

    def _unauthenticated(self, request: Request) -> Response | None:
        if self.organisation.sign_in_page == "203":
            return HTMLResponse(_SIGN_IN, 203)
        if self.organisation.sign_in_page == "302":
            host = urlsplit(self.organisation.url).netloc
            return Response(
                status_code=302, headers={"Location": f"http://{host}/_signin?realm=dev.azure.com"}
            )
        if request.headers.get("authorization") != self.expected:
            realm = {"WWW-Authenticate": 'Basic realm="https://tfsprodweu.visualstudio.com/"'}
            return HTMLResponse("", 401, realm)
        return None

    def _served(self, request: Request, path: str, body: bytes) -> Response:
        with self.organisation.lock:
            api = ""
            try:
                location, values = self._located(request, path)
                if location is None:
                    return JSONResponse(locations.listing())
                api = location.name
                self.organisation.asked[api] += 1
                response = self._handled(request, location, values, body)
            except Refusal as refusal:
                response = refusal.response()
            if request.method in _WRITES and api not in _READS_BY_POST:
                self._enter(request, unquote(path), body, response)
            return response

    def _located(self, request: Request, path: str) -> tuple[locations.Location | None, dict[str, str]]:
        """Return the API that a path leads to; none for the list of all of them."""
        first, _, rest = path.partition("/")
        if unquote(first).lower() != self.organisation.name.lower():
            raise Refusal(404, f"The organisation {unquote(first)} does not exist.", "HostNotFoundException")
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
        self, request: Request, location: locations.Location, values: dict[str, str], body: bytes
    ) -> Response:
        query = {key.lower(): value for key, value in request.query_params.items()}
        check_version(location, request.method, query.get("api-version"), request.headers.get("accept", ""))
        found = project_named(self.organisation, values["project"]) if "project" in values else None
        handler = _ROUTES[location.name].get(request.method)
        if handler is None:
            message = f"The requested resource does not support http method '{request.method}'."
            return JSONResponse({"count": 1, "value": {"Message": message}}, 405)
        return handler(Call(self.organisation, request.method, values, query, request.headers, body, found))

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


def _read(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode("utf-8", "replace")
