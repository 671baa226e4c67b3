"""Measure how much genuine text is masked that holds no secret.

`python -m tests.bench.masking DATA [--list]` reads messages, negatives and clean logs and prints the share of
characters and lines masked, the time for a line, and with --list everything that was masked. The data's own
secrets are x's of their length: what is masked of these counts as a secret.
"""

# ruff: noqa: T201 - a report

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from triage.match import clean, redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_STOOD_FOR_A_SECRET = re.compile(r"[xX*.…/+=_-]*|.*[xX]{6,}.*", re.DOTALL)
_LONGEST = 4000  # characters of a line


def main(data: Path, *, listed: bool) -> None:
    for line in _messages(data / "messages-dev.jsonl"):
        redact.mask(line)  # compiles the patterns
    for name in ("messages-dev.jsonl", "negatives-dev.jsonl"):
        _measure(name, _messages(data / name), listed=listed)
    _measure("clean-logs", _logs(data / "clean-logs"), listed=listed)


def _messages(file: Path) -> Iterator[str]:
    for row in file.read_text(encoding="utf-8").splitlines():
        yield from _lines(json.loads(row)["log"].encode())


def _logs(folder: Path) -> Iterator[str]:
    for file in sorted(folder.iterdir()):
        if file.suffix != ".jsonl":
            yield from _lines(file.read_bytes())


def _lines(log: bytes) -> Iterator[str]:
    for raw in log.split(b"\n"):
        line = clean.text(clean.wash(raw[:_LONGEST]))
        if line.strip():
            yield line


def _measure(name: str, lines: Iterable[str], *, listed: bool) -> None:
    count = characters = masked_lines = masked_characters = secrets = 0
    seconds = longest = 0.0
    for line in lines:
        started = time.perf_counter()
        masked = redact.mask(line)
        took = time.perf_counter() - started
        seconds, longest = seconds + took, max(longest, took)
        count, characters = count + 1, characters + len(line)
        gone = masked_parts(line, masked)
        wrong = [part for part in gone if not _STOOD_FOR_A_SECRET.fullmatch(part)]
        secrets += len(gone) - len(wrong)
        masked_lines += bool(wrong)
        masked_characters += sum(map(len, wrong))
        if listed and wrong:
            print(f"  {wrong}\n    {line[:400]}")
    print(
        f"{name}: {masked_characters} of {characters} characters ({masked_characters / characters:.3%}) and "
        f"{masked_lines} of {count} lines ({masked_lines / count:.3%}) masked without a secret; "
        f"{secrets} secrets; {seconds / characters * 1e6:.3f} ms for 1,000 characters, longest line {longest * 1e3:.1f} ms"
    )


def masked_parts(line: str, masked: str) -> list[str]:
    """Return what a masked line no longer holds."""
    parts = []
    at = 0
    kept = masked.split(redact.MASK)
    for number, text in enumerate(kept):
        last = number == len(kept) - 1
        start = len(line) - len(text) if last else line.find(text, at)
        if number and line[at:start].strip("*"):
            parts.append(line[at:start])
        at = start + len(text)
    return parts


if __name__ == "__main__":
    main(Path(sys.argv[1]), listed="--list" in sys.argv)
