"""`python -m tests.storms.entry receive` takes events and works on none; with anything else it is triage.

What STORM_POISON names of runs (`crash=17,exit=18,hang=19,grow=20`) takes down the worker that reads their timeline.
Worker processes import this module too, so that theirs are taken down as well.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import uvicorn

from triage import azdo, cli, config, jobs, service, web

if TYPE_CHECKING:
    from triage.domain import RunRef, TimelineRecord

_POISON = {
    int(number): how
    for how, _, number in (each.partition("=") for each in os.environ.get("STORM_POISON", "").split(","))
    if number
}
_timeline = azdo.Door.timeline


def _poisoned(door: azdo.Door, ref: RunRef, timeline_id: str | None = None) -> tuple[TimelineRecord, ...]:
    how = _POISON.get(ref.id)
    held = []
    while how:
        if how == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if how == "exit":
            os._exit(3)
        if how == "grow":
            held.append(b"x" * 20_000_000)
        time.sleep(0.01)
    return _timeline(door, ref, timeline_id)


if "STORM_CRASH_SECONDS" in os.environ:  # what triage waits after a second crash
    jobs._CRASH_SECONDS = float(os.environ["STORM_CRASH_SECONDS"])
if _POISON:
    azdo.Door.timeline = _poisoned  # type: ignore[method-assign, assignment]


def main() -> None:
    """Receive, or be triage."""
    if sys.argv[1:] != ["receive"]:
        cli.main()
        return
    settings = config.load()
    app = web.create_app(settings, service.open_database(settings))
    listener = service.listen(settings.server.host, settings.server.port)
    uvicorn.Server(service._uvicorn(app)).run([listener])


if __name__ == "__main__":
    main()
