"""The application: routes, headers, and what happens when the database is away."""

from __future__ import annotations

import sqlite3
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, select
from starlette.exceptions import HTTPException

from triage.db import Health, reader
from triage.web import connections, hook, measures, pages, rules

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.engine import Engine

    from triage.config import Settings
    from triage.web.hook import Forward

_HERE = Path(__file__).parent
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def _parts(engine: Engine) -> dict[str, str]:
    """Return how the parts that nobody looks at are doing; trouble there is no reason to restart triage."""
    with Session(reader(engine)) as session:
        rows = session.exec(select(Health)).all()
    return {row.component: row.state if row.state == "ok" else f"{row.state}: {row.detail}" for row in rows}


def create_app(settings: Settings, engine: Engine, *, forward: Forward | None = None) -> FastAPI:
    """Return the application. Raises UsageError when the hook has neither password nor header."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(hook.router(settings, engine, forward))
    app.include_router(pages.router(settings, engine))
    app.include_router(connections.router(settings, engine))
    app.include_router(rules.router(settings.rules.path))
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    templates = Jinja2Templates(directory=_HERE / "templates")

    @app.get("/healthz")
    def health() -> Response:
        """Tell whether the database answers."""
        try:
            with reader(engine).connect() as connection:
                connection.execute(text("SELECT 1"))
        except (SQLAlchemyError, sqlite3.Error):
            return JSONResponse({"database": "away"}, 503, {"Retry-After": "5"})
        return JSONResponse({"database": "ok", **_parts(engine)})

    @app.get("/metrics")
    def metrics() -> Response:
        """Tell counts and ages in the text form of Prometheus."""
        return Response(measures.text(engine), media_type=measures.MEDIA_TYPE)

    @app.middleware("http")
    async def headers(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await go_on(request)
        response.headers.update(_HEADERS)
        return response

    def problem(request: Request, status: int, message: str) -> Response:
        if request.url.path.startswith(("/api/", "/hooks/")):
            return JSONResponse({"error": message}, status)
        return templates.TemplateResponse(request, "problem.html", {"message": message}, status)

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        unknown = error.status_code == HTTPStatus.NOT_FOUND and error.detail == "Not Found"
        message = f"There is no page {request.url.path}." if unknown else str(error.detail)
        response = problem(request, error.status_code, message)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    def no_such_number(request: Request, _: RequestValidationError) -> Response:
        return problem(request, 404, f"There is no page {request.url.path}: it should end in a number.")

    @app.exception_handler(sqlite3.Error)  # raised as it is where a connection is being set up
    @app.exception_handler(SQLAlchemyError)
    def database_away(request: Request, _: Exception) -> Response:
        response = problem(request, 503, "The database is away; try again in a few seconds.")
        response.headers["Retry-After"] = "5"
        return response

    return app
