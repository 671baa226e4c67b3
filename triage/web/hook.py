"""`POST /hooks/azure-devops`: answers 202, 401 or 503 and nothing else.

Any other refusal would put the subscription on probation, during which Azure DevOps drops events.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING

import anyio
import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from triage import intake
from triage.errors import UsageError
from triage.intake.beat import Beats
from triage.intake.deliveries import Keeper

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Engine

    from triage.config import Hook, Settings

    Forward = Callable[[bytes], bool]  # True once an event is safe somewhere else than in the database

log = structlog.get_logger()

_STORE_SECONDS = 8.0  # a database that says nothing for so long is away
_DRAIN_BODIES = 8  # so many times the largest body is read and thrown away


def router(settings: Settings, engine: Engine, forward: Forward | None = None) -> APIRouter:
    """Return the hook's route. Raises UsageError when nothing protects it.

    With `forward` the database is needed only for what cannot be forwarded.
    """
    if not _secrets(settings.hook):
        raise UsageError(
            "The hook is unprotected: set hook.password (TRIAGE_HOOK__PASSWORD) for basic authentication, "
            "or hook.header_value for a secret header, and give Azure DevOps the same value."
        )
    routes = APIRouter()
    keeper = Keeper(engine, beats=Beats())

    @routes.post("/hooks/azure-devops")
    @routes.post("/hooks/azure-devops/")  # a redirect would put the subscription on probation
    async def receive(request: Request) -> Response:
        """Keep what Azure DevOps tells. Asynchronous only to stop reading at the cap."""
        if not authentic(request, settings.hook):
            return JSONResponse(
                {"error": "Wrong user name or password."}, 401, {"WWW-Authenticate": 'Basic realm="triage"'}
            )
        body = await _read(request, settings.hook.max_body_bytes)
        try:
            with anyio.fail_after(_STORE_SECONDS):
                notice = await anyio.to_thread.run_sync(
                    _keep, keeper, forward, body, settings.azure_devops.url, abandon_on_cancel=True
                )
        except Exception:  # whatever it is: nothing is stored, so it must come again
            log.exception("event not stored; Azure DevOps is asked to send it again")
            return JSONResponse(
                {"error": "The event could not be stored; send it again."}, 503, {"Retry-After": "5"}
            )
        return JSONResponse(notice, 202)

    return routes


def _secrets(hook: Hook) -> list[str]:
    """Return the secrets that protect the hook; raise UsageError for an empty one."""
    given = {"hook.password": hook.password, "hook.header_value": hook.header_value}
    secrets = {name: value.get_secret_value() for name, value in given.items() if value is not None}
    for name, secret in secrets.items():
        if not secret.strip():
            raise UsageError(f"{name} is empty and would let everybody in: set a long random value.")
    return list(secrets.values())


def authentic(request: Request, hook: Hook) -> bool:
    """Return True when the request proves that it comes from our subscription.

    Both halves are always compared, in constant time.
    """
    proven = []
    if hook.password is not None:
        user, _, password = _basic(request.headers.get("authorization", "")).partition(b":")
        right_user = hmac.compare_digest(user, hook.username.encode())
        right_password = hmac.compare_digest(password, hook.password.get_secret_value().encode())
        proven.append(right_user & right_password)
    if hook.header_value is not None:
        given = request.headers.get(hook.header_name, "").encode("latin-1")
        proven.append(hmac.compare_digest(given, hook.header_value.get_secret_value().encode()))
    return any(proven)


def _keep(keeper: Keeper, forward: Forward | None, body: bytes | None, url: str) -> dict[str, str]:
    """Keep an event where it is safe and return what became of it; one that is no event stays here."""
    if forward is not None and body is not None:
        is_event = intake.parse(body, url).kind != "refused"
        if is_event and forward(body):
            return {"outcome": "forwarded", "reason": ""}
    return keeper.store(body, url)


def _basic(header: str) -> bytes:
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


async def _read(request: Request, cap: int) -> bytes | None:
    """Return the body, None when it is larger than the cap, compressed or broken off.

    A body that is refused is still taken off the line, to a limit: who gets an answer in the middle
    of sending may never read it.
    """
    wanted = request.headers.get("content-encoding", "identity").lower() == "identity"
    kept, taken = bytearray(), 0
    try:
        async for chunk in request.stream():
            taken += len(chunk)
            wanted = wanted and taken <= cap
            if wanted:
                kept += chunk
            elif taken > _DRAIN_BODIES * cap:
                return None
    except ClientDisconnect:
        return None
    return bytes(kept) if wanted else None
