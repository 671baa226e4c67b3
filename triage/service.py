"""triage as a whole: database, web server and workers, started and stopped together."""

from __future__ import annotations

import signal
import socket
import threading
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import uvicorn

from triage import azdo, config, crew, db, diagnosis, web, worker
from triage import sweep as sweeping
from triage.errors import UsageError
from triage.intake.bus import Bus, require_usable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.engine import Engine

_DRAIN_SECONDS = 20.0
_LOOK_SECONDS = 1.0


def listen(host: str, port: int) -> socket.socket:
    """Bind the address to serve on. Raises UsageError when it is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, asyncio sends each part of an answer at once: else each takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Stop what uses the port, or choose another "
            "with --port (server.port, TRIAGE_SERVER__PORT)."
        ) from None
    return listener


def open_database(settings: config.Settings) -> Engine:
    """Open the database and bring its schema up to date."""
    engine = db.open_engine(settings.database.url)
    db.migrate(engine)
    return engine


@contextmanager
def running(settings: config.Settings, listener: socket.socket) -> Iterator[Engine]:
    """Run web server and workers beside the caller, as threads; on leaving, finish what was begun."""
    known = _ready(settings)
    engine = open_database(settings)
    bus = Bus(settings, engine)
    server = uvicorn.Server(_uvicorn(web.create_app(settings, engine, forward=_forward(bus))))
    thread = threading.Thread(target=server.run, args=([listener],), name="triage-web", daemon=True)
    try:
        with worker.running(settings, engine, known), bus:
            thread.start()
            try:
                yield engine
            finally:
                server.should_exit = True
                thread.join(_DRAIN_SECONDS)
    finally:
        engine.dispose()


def serve(settings: config.Settings) -> None:
    """Serve until interrupted or told to stop."""
    _ready(settings)
    listener = listen(settings.server.host, settings.server.port)
    engine = open_database(settings)
    bus = Bus(settings, engine)
    app = web.create_app(settings, engine, forward=_forward(bus))
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn stops on them and then raises them again, which would end us before the workers.
        signal.signal(number, lambda *_: None)
    with crew.running(settings, engine), bus:
        uvicorn.Server(_uvicorn(app)).run([listener])


def work(settings: config.Settings, stopping: threading.Event) -> None:
    """Run the workers alone until `stopping` is set."""
    _ready(settings)
    with crew.running(settings, open_database(settings)):
        # Not without end: where another thread takes the signal, Python does not wake this one.
        while not stopping.wait(_LOOK_SECONDS):
            pass


def sweep(settings: config.Settings, age: timedelta, projects: Sequence[str]) -> str:
    """Queue the failed runs of a time that no event told of. Returns what was found, in one sentence."""
    config.require_organization(settings)
    kept = timedelta(days=settings.history.keep_days)
    if kept and age > kept:
        raise UsageError(
            f"triage forgets runs after {kept.days} days (history.keep_days), and would take older ones for "
            f"new; say at most --since {kept.days}d."
        )
    door = azdo.account(settings.azure_devops).door()
    engine = open_database(settings)
    found = sweeping.sweep(
        door,
        engine,
        since=db.now() - age,
        first=age,
        grace=timedelta(seconds=settings.sweep.grace_seconds),
        only=projects or settings.sweep.projects,
    )
    engine.dispose()
    return str(found)


def _ready(settings: config.Settings) -> diagnosis.Knowledge:
    """Check every setting before anything starts. Raises UsageError or RulePackError."""
    config.require_organization(settings)
    require_usable(settings)
    azdo.account(settings.azure_devops).door()  # sends nothing; refuses what is no organisation
    return diagnosis.knowledge(settings)


def _forward(bus: Bus) -> Callable[[bytes], bool] | None:
    return bus.forward if bus.settings.service_bus.forward else None


def _uvicorn(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
        log_config=None,
    )
