"""The benchmarks run and print their tables; what they measure is looked at by people, not by the suite."""

from __future__ import annotations

import subprocess
import sys

import pytest

from triage.bootstrap import ROOT


@pytest.mark.parametrize(
    ("bench", "rows"),
    [
        (
            "speed",
            ["rg", "each rule on each line", "start to the first finding", "rules", "--jobs", "hostile"],
        ),
        (
            "memory",
            [
                "a log of",
                "one line",
                "short lines",
                "NULs",
                "invalid",
                "progress",
                "BOMs",
                "UTF-16",
                "gzip",
                "zip",
            ],
        ),
    ],
)
def test_a_small_run_prints_its_table(bench: str, rows: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.bench.{bench}", "--mb", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "wanted" in done.stdout
    assert [row for row in rows if row not in done.stdout] == []
    assert "NOT FOUND" not in done.stdout
