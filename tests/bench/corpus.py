"""Measure the shipped pack on a folder of messages, negatives and clean logs.

`python -m tests.bench.corpus DATA [--list]` prints recall, family and verdict accuracy, wrong "expired",
and false positives; with --list also every miss and false alarm.
"""

# ruff: noqa: T201 - a report

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triage import match
from triage.domain import Verdict

if TYPE_CHECKING:
    from triage.domain import Match


def main(data: Path, *, listed: bool) -> None:
    pack = match.load_pack()
    _messages(pack, _rows(data / "messages-dev.jsonl"), listed=listed)
    _negatives(pack, _rows(data / "negatives-dev.jsonl"), listed=listed)
    _clean(pack, data / "clean-logs", listed=listed)


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def _found(pack: match.Pack, log: bytes) -> list[Match]:
    """Return what counts as a finding: everything but look-alikes, best first."""
    matches = match.search(pack, [log]).matches
    real = [m for m in matches if m.verdict is not Verdict.LOOK_ALIKE]
    return sorted(real, key=lambda m: -m.confidence.rank)


def _messages(pack: match.Pack, rows: list[dict[str, Any]], *, listed: bool) -> None:
    hits = family = verdict = wrongly_expired = 0
    missed: Counter[str] = Counter()
    for row in rows:
        found = _found(pack, row["log"].encode())
        if not found:
            missed[row["family"]] += 1
            _tell(listed, "missed", row)
            continue
        hits += 1
        right = [m for m in found if m.credential == row["family"]]
        family += bool(right)
        best = (right or found)[0]
        verdict += best.verdict.value == row["verdict"]
        if best.verdict is Verdict.EXPIRED and row["verdict"] != "expired":
            wrongly_expired += 1
            _tell(listed, f"wrongly expired by {best.rule}", row)
        elif not right:
            _tell(listed, f"family {best.credential} by {best.rule}", row)
        elif best.verdict.value != row["verdict"]:
            _tell(listed, f"verdict {best.verdict.value} by {best.rule}, not {row['verdict']}", row)
    print(f"messages {len(rows)}: recall {hits / len(rows):.3f}", end=", ")
    print(
        f"family {family / max(hits, 1):.3f}, verdict {verdict / max(hits, 1):.3f} of those found", end=", "
    )
    print(f"wrongly expired {wrongly_expired}")
    print("missed by family:", ", ".join(f"{name} {count}" for name, count in missed.most_common()))


def _negatives(pack: match.Pack, rows: list[dict[str, Any]], *, listed: bool) -> None:
    alarms = look_alikes = 0
    for row in rows:
        found = _found(pack, row["log"].encode())
        alarms += bool(found)
        look_alikes += not found and bool(match.search(pack, [row["log"].encode()]).matches)
        for one in found:
            _tell(listed, f"false alarm {one.rule}: {one.excerpt[:160]} |", row)
    print(f"negatives {len(rows)}: {alarms} false alarms, {look_alikes} told as look-alikes")


def _clean(pack: match.Pack, folder: Path, *, listed: bool) -> None:
    files = sorted(f for f in folder.iterdir() if f.suffix != ".jsonl")
    alarms = 0
    for file in files:
        found = _found(pack, file.read_bytes())
        alarms += bool(found)
        if listed:
            for one in found:
                print(f"  false alarm {one.rule} in {file.name}:{one.line}: {one.excerpt[:160]}")
    print(f"clean logs {len(files)}: {alarms} with a false alarm")


def _tell(listed: bool, what: str, row: dict[str, Any]) -> None:  # noqa: FBT001
    if listed:
        about = row.get("family") or row.get("kind")
        print(f"  {what}: {row['id']} {about}: {row['log'][:160]!r}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), listed="--list" in sys.argv)
