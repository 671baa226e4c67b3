"""Try what triage promises under load, at full size: `python -m tests.bench.storm [R8 R9 R11 R21 scale]`.

Takes the better part of an hour. `--part 0.1` tries a tenth of each, `--database postgresql` starts a server.
Every event goes over HTTP to `triage serve`, every call to a played organisation in a process of its own.
"""

# ruff: noqa: T201 - a report

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests import postgres
from tests.storms import checks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.storms.checks import Result, Scene

# As people run it: an incident's people hear after half a minute, and then every five.
_USUAL = {"POLICY__GROUP_WAIT_SECONDS": "30", "POLICY__GROUP_INTERVAL_SECONDS": "300"}
_HASTY = {"JOB_SECONDS_MAX": "5", "WORKER_MEMORY_MB": "1024"}
_SETTINGS = {"R8": _USUAL, "R9": _USUAL, "R11": _HASTY, "R21": _USUAL, "scale": {}}


def main(promises: Sequence[str], part: float, kind: str) -> int:
    """Print a table, promise by promise. Returns 1 when one was broken."""
    print(f"{kind}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {part:g} of full size\n")
    print("promise / trials / violations / figures", flush=True)
    broken = 0
    for promise in promises:
        with (
            tempfile.TemporaryDirectory(prefix="triage-storm-") as folder,
            _database(kind, Path(folder)) as url,
            checks.scene(Path(folder), url, **_SETTINGS[promise]) as at,
        ):
            result = _tried(promise, part)(at)
        broken += bool(result.violations)
        _tell(result)
    return int(broken > 0)


def _tried(promise: str, part: float) -> Callable[[Scene], Result]:
    def count(full: int) -> int:
        return max(int(full * part), 1)

    return {
        "R8": lambda at: checks.storm(at, runs=count(5000), seconds=60 * part),
        "R9": lambda at: checks.fair(at, projects=count(200), noisy=count(10_000)),
        "R11": lambda at: checks.poison(at, healthy=count(500)),
        "R21": lambda at: checks.pressure(at, events=count(20_000)),
        "scale": lambda at: checks.scale(at, runs=count(2000)),
    }[promise]


def _tell(result: Result) -> None:
    figures = "; ".join(f"{name} {value}" for name, value in result.figures.items())
    print(f"{result.promise} / {result.trials} / {len(result.violations)} / {figures}")
    for violation in result.violations:
        print(f"    VIOLATED: {violation}")
    sys.stdout.flush()


@contextmanager
def _database(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'triage.db'}"
        return
    programs = postgres.programs()
    if programs is None:
        raise SystemExit(postgres.MISSING)
    server = postgres.Server(programs, durable=True)
    try:
        yield server.url(server.create())
    finally:
        server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("promises", nargs="*", default=list(_SETTINGS), choices=[*_SETTINGS, []])
    parser.add_argument("--part", type=float, default=1.0)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    given = parser.parse_args()
    sys.exit(main(given.promises or list(_SETTINGS), given.part, given.database))
