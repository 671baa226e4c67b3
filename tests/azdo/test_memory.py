"""What was said lately is not asked again, and what is old is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.conftest import ENDPOINT, PIPELINE, TOKEN
from triage import azdo

if TYPE_CHECKING:
    from triage.sandbox.organisation import Project
    from triage.sandbox.server import Played


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_answer_is_kept_until_it_is_old(clock: Clock) -> None:
    memory, said = azdo.Memory(clock=clock), iter("abc")
    assert memory.recall("q", lambda: next(said), seconds=60) == "a"
    clock.now += 59
    assert memory.recall("q", lambda: next(said), seconds=60) == "a"
    clock.now += 1
    assert memory.recall("q", lambda: next(said), seconds=60) == "b"


def test_an_answer_from_before_a_moment_does_not_count(clock: Clock) -> None:
    memory, said = azdo.Memory(clock=clock), iter("abc")
    memory.recall("q", lambda: next(said), seconds=600)
    assert memory.recall("q", lambda: next(said), seconds=600, not_before=1000.0) == "a"
    assert memory.recall("q", lambda: next(said), seconds=600, not_before=1000.1) == "b"


def test_the_least_used_is_forgotten_first(clock: Clock) -> None:
    memory = azdo.Memory(2, clock)
    for question in ("a", "b", "a", "c"):
        memory.recall(question, lambda question=question: question, seconds=60)  # type: ignore[misc]
    asked: list[str] = []
    for question in ("a", "c", "b"):
        memory.recall(question, lambda question=question: asked.append(question), seconds=60)  # type: ignore[misc]
    assert asked == ["b"]


def test_a_refusal_is_not_kept(clock: Clock) -> None:
    memory = azdo.Memory(clock=clock)

    def refuse() -> str:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        memory.recall("q", refuse, seconds=60)
    assert memory.recall("q", lambda: "yes", seconds=60) == "yes"


def test_many_threads_share_one_memory() -> None:
    memory, wrong = azdo.Memory(50), list[tuple[int, int]]()

    def work() -> None:
        for n in range(400):
            told = memory.recall(n % 97, lambda n=n: n % 97, seconds=60)  # type: ignore[misc]
            if told != n % 97:
                wrong.append((n, told))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_doors_with_one_memory_ask_once_together(played: Played, shop: Project) -> None:
    memory, asked = azdo.Memory(), played.organisation.calls
    for _ in range(3):
        door = azdo.connect(played.url, TOKEN, memory=memory)
        door.connections(shop.id)
        door.definition(shop.id, PIPELINE, 2)
    assert (asked["endpoints"], asked["definitions"]) == (1, 1)


def test_a_door_without_memory_asks_each_time(played: Played, shop: Project) -> None:
    door = azdo.connect(played.url, TOKEN)
    shop.endpoints.pop(ENDPOINT)
    assert len(door.connections(shop.id)) == 1
    shop.endpoints.clear()
    assert door.connections(shop.id) == ()
