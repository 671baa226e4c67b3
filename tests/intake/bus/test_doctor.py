"""What `triage doctor` tells of the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import SecretStr

from tests.intake.bus.conftest import failed, put, settings_for
from triage.doctor import here

if TYPE_CHECKING:
    from triage.sandbox.bus import Broker, Queue


def test_a_queue_that_is_reached_is_fine_and_one_that_is_not_is_told(broker: Broker, queue: Queue) -> None:
    settings = settings_for(broker, queue)
    (found,) = here._queue(settings)
    assert (found.level.value, "is reached and has no dead letters" in found.told) == ("ok", True)
    assert queue.dead_letters is not None
    put(broker, queue.dead_letters, failed(), failed())
    (found,) = here._queue(settings)
    assert (found.level.value, "has dead letters: 2." in found.told) == ("warning", True)
    away = SecretStr(broker.connection_string.replace(f":{broker.port}", ":1"))
    wrong = settings.model_copy(
        update={"service_bus": settings.service_bus.model_copy(update={"connection_string": away})}
    )
    (found,) = here._queue(wrong)
    assert (found.name, found.level.value) == ("queue", "error")
    assert "does not answer" in found.told
