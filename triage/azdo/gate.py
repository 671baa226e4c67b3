"""Whether requests may be sent to an organisation now; shared by all who send with one token."""

from __future__ import annotations

import time
from typing import Protocol


class Gate(Protocol):
    """Closed while Azure DevOps asks for patience or is away. Asked before each request."""

    def closed_for(self) -> tuple[float, str]:
        """Return for how many seconds nothing may be sent, and why; 0 when it is open."""
        ...

    def close(self, seconds: float, reason: str) -> None:
        """Let nothing through for so long; a longer closure that is on already stays."""
        ...

    def pause(self, seconds: float) -> None:
        """Wait. Raises Snooze when the process is told to stop."""
        ...


class LocalGate:
    """The gate of a process that is alone, such as `triage explain`."""

    def __init__(self) -> None:
        self._until = 0.0
        self._reason = ""

    def closed_for(self) -> tuple[float, str]:
        """Return for how many seconds nothing may be sent, and why."""
        return max(self._until - time.monotonic(), 0.0), self._reason

    def close(self, seconds: float, reason: str) -> None:
        """Let nothing through for so long."""
        until = time.monotonic() + seconds
        if until > self._until:
            self._until, self._reason = until, reason

    def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
