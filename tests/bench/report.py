"""Print what was measured as a table, row by row as it becomes known, and run what is measured."""

# ruff: noqa: T201 - a report

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from triage.bootstrap import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

TRIAGE = (sys.executable, "-m", "triage")
_WIDTHS = (58, 44, 9, 11)
# Peak memory as the system counts it for a process of its own: it is no less than its parent's was.
_MEASURED = (
    "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); "
    "sys.exit(done.returncode)"
)
_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Row:
    """One line of the table; `ok` is None for what is told for information."""

    what: str
    figure: str
    ratio: str = ""
    wanted: str = ""
    ok: bool | None = None


def head(title: str) -> None:
    """Print what stands above the rows."""
    print(f"{title}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print(_columns("what", "figure", "ratio", "wanted", ""))
    print("-" * (sum(_WIDTHS) + 2 * len(_WIDTHS) + 6), flush=True)


def tell(row: Row) -> None:
    """Print a row."""
    verdict = "" if row.ok is None else "ok" if row.ok else "MISSED"
    print(_columns(row.what, row.figure, row.ratio, row.wanted, verdict), flush=True)


def left_out(what: str, why: str) -> None:
    """Say in a sentence why a row is missing."""
    print(f"{what}: left out. {why}", flush=True)


def _columns(*texts: str) -> str:
    return "  ".join(text.ljust(width) for text, width in zip(texts, (*_WIDTHS, 6), strict=True)).rstrip()


def output(command: Sequence[str | Path]) -> str:
    """Return what a command prints; it may exit with 1, as searches do."""
    return _done([*map(str, command)]).stdout


def peak(command: Sequence[str | Path]) -> tuple[str, int]:
    """Return what a command prints, and how many bytes of memory it took at most."""
    done = _done([sys.executable, "-c", _MEASURED, *map(str, command)])
    return done.stdout, int(done.stderr.split()[-1]) * _UNIT


def _done(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{command} failed: {done.stderr}")
    return done


def best(rounds: int, *runs: Callable[[], object]) -> list[float]:
    """Return the seconds of each run's best round; they take turns, so that noise hits all alike.

    The best counts, for what else the machine does only ever makes a round slower.
    """
    times = [[seconds(each) for each in runs] for _ in range(rounds)]
    return [min(each) for each in zip(*times, strict=True)]


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def has(tool: str) -> bool:
    """Return True when a tool is installed."""
    return shutil.which(tool) is not None
