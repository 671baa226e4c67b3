"""Measure how much memory a scan takes on inputs of every awkward kind, each in a process of its own.

`python -m tests.bench.memory [--mb 1000]` makes inputs of up to so many megabytes in the system's temporary
folder (TMPDIR), one at a time, and takes minutes. Each holds one message near its end, which must be found.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import zipfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.bench import logs, report
from tests.bench.report import MEBIBYTE, Row, tell
from triage import match

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.bench.logs import Maker

LIMIT = 128 * MEBIBYTE
_END = b"\n" + logs.PLANTED + b"\n" + b"Finishing: Push image\n" * 20
_BOM = b"\xef\xbb\xbf"
_BLOCK = 4 * logs.MEGABYTE


@dataclass(frozen=True)
class Input:
    """A log of an awkward kind, made part by part."""

    what: str
    parts: Iterable[bytes]
    packed: str = ""  # how the file is compressed: its suffix


def main(megabytes: float) -> None:
    report.head(f"Peak memory of triage scan on inputs of up to {megabytes:g} MB")
    maker = logs.maker(match.load_pack())
    with tempfile.TemporaryDirectory(prefix="triage-memory-") as folder:
        for each in inputs(maker, int(megabytes * logs.MEGABYTE)):
            _measure(Path(folder), each)


def inputs(maker: Maker, size: int) -> Iterator[Input]:
    """Yield every kind: the largest of a size, awkward ones of a fifth."""
    part = size // 5
    yield Input("a small log: what a start takes", maker.parts(size // 1000))
    yield Input(f"a log of {_mb(size)}", maker.parts(size))
    yield Input(f"one line of {_mb(part)}", _one_line(part))
    yield Input(f"{size // 100:,} short lines", chain(logs.repeated(b"ok\n", size // 100 * 3), [_END]))
    yield Input(f"{_mb(part)} of NULs in between", _in_between(maker, b"\0" * _BLOCK, part))
    yield Input(f"{_mb(part)} of invalid UTF-8", _in_between(maker, _invalid(), part))
    yield Input(f"{_mb(part)} of progress bars, lines of 2 MB", _in_between(maker, _bars() + b"\n", part))
    yield Input(
        f"{_mb(part)} of progress bars, one line",
        chain(logs.repeated(_bars(), part), [b"\r" + logs.PLANTED + b"\r 100%\n"]),
    )
    yield Input(f"{_mb(part)} with BOMs in each line", _with_boms(maker, part))
    yield Input(
        f"{_mb(part)} of colours", _in_between(maker, b"\x1b[1;31mred\x1b[0m ^[[K plain\n" * 50_000, part)
    )
    yield Input(f"{_mb(part)} of UTF-16, little-endian", _recoded(maker, "utf-16-le", part))
    yield Input(f"{_mb(part)} of UTF-16, big-endian", _recoded(maker, "utf-16-be", part))
    yield Input(f"gzip of {_mb(size)}", maker.parts(size), ".gz")
    yield Input(f"zip of {_mb(size)}", maker.parts(size), ".zip")


def _mb(size: int) -> str:
    return f"{size / logs.MEGABYTE:g} MB"


def _one_line(size: int) -> Iterator[bytes]:
    words = b"the quick brown fox jumps over 13 lazy dogs, "
    yield from logs.repeated(words * (_BLOCK // len(words)), size)
    yield logs.PLANTED + b" " + words * 200 + b"\n"


def _in_between(maker: Maker, block: bytes, size: int) -> Iterator[bytes]:
    yield from maker.beginning(size // 100)
    yield from logs.repeated(block, size)
    yield _END


def _invalid() -> bytes:
    chance = Random(1)
    return b"".join(
        bytes(chance.randrange(128, 256) for _ in range(90)) + b" text\xff\xfe\xc3\n" for _ in range(20_000)
    )


def _bars() -> bytes:
    return b"".join(b"\r %3d%% [%-50s] 204M %ds" % (at % 100, b"=" * (at % 50), at) for at in range(30_000))


def _with_boms(maker: Maker, size: int) -> Iterator[bytes]:
    for part in maker.parts(size):
        yield _BOM + part.replace(b" ", _BOM + b" ", 20_000).replace(
            b"unauthorized", b"unautho" + _BOM + b"rized"
        )


def _recoded(maker: Maker, encoding: str, size: int) -> Iterator[bytes]:
    yield "\N{BYTE ORDER MARK}".encode(encoding)
    for part in maker.parts(size // 2):
        yield part.decode().encode(encoding)


def _measure(folder: Path, each: Input) -> None:
    file = folder / f"input.log{each.packed}"
    if each.packed and not _reads(file):
        return report.left_out(each.what, f"The scan of this triage does not read {each.packed} files.")
    _write(file, each)
    output, peak = _scan(file)
    size = file.stat().st_size
    file.unlink()
    found = _found(output)
    said = f"found in line {found[-1]:,}" if found else "NOT FOUND"
    packed = f" ({_mb(size)} on disk)" if each.packed else ""
    figure = f"{peak / MEBIBYTE:.0f} MiB; message {said}{packed}"
    return tell(
        Row(
            each.what,
            figure,
            f"{peak / LIMIT:.2f}",
            f"< {LIMIT // MEBIBYTE} MiB",
            bool(found) and peak < LIMIT,
        )
    )


def _scan(file: Path) -> tuple[str, int]:
    return report.peak([*report.TRIAGE, "scan", "--format", "json", file])


def _found(output: str) -> list[int]:
    """Return the lines in which the planted message was found."""
    findings = [json.loads(line) for line in output.splitlines()]
    return [each["line"] for each in findings if each["rule"] == logs.PLANTED_RULE]


def _reads(file: Path) -> bool:
    """Return True when a small file, compressed alike, is read."""
    _write(file, Input("", [_END], file.suffix))
    return bool(_found(_scan(file)[0]))


def _write(file: Path, each: Input) -> None:
    if each.packed == ".zip":
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open("1_Build.txt", "w", force_zip64=True) as entry,
        ):
            entry.writelines(each.parts)
    elif each.packed == ".gz":
        with gzip.open(file, "wb", compresslevel=1) as packed:
            packed.writelines(each.parts)
    else:
        with file.open("wb") as plain:
            plain.writelines(each.parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--mb", type=float, default=1000, help="size of the largest inputs [default: 1000]")
    main(parser.parse_args().mb)
