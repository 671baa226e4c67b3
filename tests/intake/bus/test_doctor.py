"""What `triage doctor` tells of the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import SecretStr

from tests.intake.bus.conftest import failed, put, settings_for
from triage import config
from triage.doctor import here

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

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


def test_a_connection_string_that_others_may_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "triage.toml"
    file.write_text('[service_bus]\nconnection_string = "Endpoint=sb://c/;SharedAccessKey=c2VjcmV0"\n')
    monkeypatch.setenv("TRIAGE_CONFIG", str(file))
    for mode, level in ((0o644, "error"), (0o600, "ok")):
        file.chmod(mode)
        (found,) = here._files(config.Settings())
        assert (found.level.value, "c2VjcmV0" in found.told) == (level, False)
