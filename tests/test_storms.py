"""Processes that share a database; what triage promises under load is tried by tests/promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.storms import checks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Databases


def test_processes_that_share_postgresql_count_each_run_once(databases: Databases, tmp_path: Path) -> None:
    with (
        databases.new("postgresql", tmp_path) as url,
        checks.scene(tmp_path, url, POLICY__GROUP_INTERVAL_SECONDS="2") as made,
    ):
        assert checks.scale(made, runs=60, processes=4) == []
