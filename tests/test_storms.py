"""What triage promises under load, in small; `python -m tests.bench.storm` tries the same at full size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.storms import checks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.databases import Databases
    from tests.storms.checks import Result, Scene

QUICK = {
    "JOB_SECONDS_MAX": "2",
    "WORKER_MEMORY_MB": "512",
    "STORM_CRASH_SECONDS": "0.2",
    "POLICY__GROUP_INTERVAL_SECONDS": "2",
}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with checks.scene(tmp_path, f"sqlite:///{tmp_path}/triage.db", **QUICK) as made:
        yield made


def kept(result: Result) -> bool:
    assert result.violations == []
    return result.trials > 0


def test_a_storm_ends_in_one_work_item(scene: Scene) -> None:
    assert kept(checks.storm(scene, runs=200, seconds=2, pipelines=2, pull_requests=1))


def test_a_noisy_project_holds_up_no_other(scene: Scene) -> None:
    assert kept(checks.fair(scene, projects=6, runs=5, noisy=300))


def test_a_job_that_takes_workers_down_is_put_in_quarantine_and_delays_nobody(scene: Scene) -> None:
    assert kept(checks.poison(scene, healthy=20, kinds=("crash", "grow")))


def test_events_wait_for_workers_that_do_not_work(scene: Scene) -> None:
    assert kept(checks.pressure(scene, events=200))


def test_processes_that_share_postgresql_count_each_run_once(databases: Databases, tmp_path: Path) -> None:
    with (
        databases.new("postgresql", tmp_path) as url,
        checks.scene(tmp_path, url, **QUICK) as made,
    ):
        assert kept(checks.scale(made, runs=60, processes=4))
