"""How many requests the played organisation takes before it refuses, and what was sent all the same."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field


@dataclass
class Budget:
    """So many requests a second; one more closes the door for `retry_after` seconds (429)."""

    per_second: int
    retry_after: int = 1
    served: int = 0
    refusals: int = 0  # each began a time in which nothing may be sent
    forbidden: list[float] = field(default_factory=list)  # requests in such a time: seconds after its begin
    _in_this: int = 0
    _most: int = 0
    _recent: deque[float] = field(default_factory=deque)
    _closed_at: float = 0.0
    _closed_until: float = 0.0

    def refuses(self) -> int:
        """Count a request; return after how many seconds it may come again, 0 when it is served."""
        now = time.monotonic()
        if now < self._closed_until:
            self.forbidden.append(now - self._closed_at)
            self._in_this += 1
            self._most = max(self._most, self._in_this)
            return max(int(self._closed_until - now + 0.999), 1)
        while self._recent and self._recent[0] < now - 1:
            self._recent.popleft()
        if len(self._recent) >= self.per_second:
            self.refusals += 1
            self._in_this = 0
            self._closed_at, self._closed_until = now, now + self.retry_after
            return self.retry_after
        self._recent.append(now)
        self.served += 1
        return 0

    def most_in_one(self) -> int:
        """Return how many requests came in one time in which nothing may be sent, at most."""
        return self._most
