"""What Azure DevOps said lately, so that a thousand failed runs do not ask the same thousand times."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")

_CAPACITY = 2000


class Memory:
    """Answers by question, the least used forgotten first. Shared by the doors of all workers.

    A door that is given none asks every time. Two workers may ask the same at once; the later
    answer stays.
    """

    def __init__(self, capacity: int = _CAPACITY, clock: Callable[[], float] = time.time) -> None:
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()

    def recall(
        self, question: Hashable, ask: Callable[[], T], *, seconds: float, not_before: float = 0.0
    ) -> T:
        """Return the answer kept for a question, or ask and keep what is said.

        An answer older than `seconds`, or given before the moment `not_before` (since 1970), is
        asked for again. What raises is not kept.
        """
        with self._lock:
            found = self._kept.get(question)
            if found is not None and self._clock() - found[0] < seconds and found[0] >= not_before:
                self._kept.move_to_end(question)
                return cast("T", found[1])
        asked_at = self._clock()
        answer = ask()
        with self._lock:
            self._kept[question] = asked_at, answer
            self._kept.move_to_end(question)
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        return answer
