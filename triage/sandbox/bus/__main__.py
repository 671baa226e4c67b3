"""Serve a played Service Bus by itself: `python -m triage.sandbox.bus [PORT] [QUEUE …]`."""

from __future__ import annotations

import contextlib
import sys
import threading

from triage.sandbox.bus import Broker, Queue

port, *names = sys.argv[1:] or ["0"]
with Broker(*(Queue(name) for name in names or ["triage"]), port=int(port)) as broker:
    print(broker.connection_string, flush=True)  # noqa: T201 - what a client is given
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
