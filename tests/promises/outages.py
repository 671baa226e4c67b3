"""Ways to take the database away from a running `triage serve`."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import make_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.promises.lane import Lane


@dataclass(frozen=True)
class Way:
    """A way to be away, and how many times faster than ours the organisation's clock goes meanwhile.

    A database that refuses lets it go fast. For one that says nothing the hook waits some seconds of our
    clock before it asks for the event again.
    """

    name: str
    short_speed: float
    long_speed: float


_REFUSING, _SILENT = (20.0, 1200.0), (2.0, 15.0)
WAYS = {
    "sqlite": (Way("the disk is full", *_REFUSING), Way("the file is locked", *_SILENT)),
    "postgresql": (Way("the server is stopped", *_REFUSING), Way("the server hangs", *_SILENT)),
}


@contextmanager
def away(lane: Lane, serving: int, way: Way) -> Iterator[None]:
    """Take the database away from `triage serve`, a process, for as long as the `with` lasts."""
    lane.engine.dispose()
    server, file = lane.server, make_url(lane.settings.database.url).database
    if server and way.name == "the server is stopped":
        server.stop(signal.SIGQUIT)
        yield
        server.start()
    elif server:
        stopped = server.every_pid()
        _signal(stopped, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(stopped, signal.SIGCONT)
    elif way.name == "the disk is full":
        _allow_files(serving, 0)
        yield
        _allow_files(serving, resource.RLIM_INFINITY)
    else:
        holder = sqlite3.connect(str(file), isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.execute("ROLLBACK")
        holder.close()


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _allow_files(pid: int, size: int) -> None:
    """Let a process and its children write to files up to a size only; beyond it they are told that it fails."""
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, most))
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            with suppress(ProcessLookupError, FileNotFoundError):
                _allow_files(int(child), size)
