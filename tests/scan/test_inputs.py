"""Packed and oddly encoded logs, and what cannot be read of them."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.match import packs
from triage import match, scan
from triage.scan import inputs, reports

if TYPE_CHECKING:
    from pathlib import Path

EXPIRED = b"WIDGET-77: key 'blue' has expired\n"
LOG = b"a\nb\n" + EXPIRED


@pytest.fixture
def pack(tmp_path: Path) -> match.Pack:
    return match.load_pack(packs.write(tmp_path / "rules"))


def found(
    pack: match.Pack, *paths: Path | str, stdin: bytes = b"", jobs: int = 1
) -> tuple[int, list[tuple[str, int]], str]:
    out, err = io.StringIO(), io.StringIO()
    code = scan.run(
        map(str, paths), pack=pack, report=reports.Json(out), stdin=io.BytesIO(stdin), stderr=err, jobs=jobs
    )
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    return code, [(each["path"], each["line"]) for each in told if "line" in each], err.getvalue()


def zipped(path: Path, **members: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_gzip_is_known_by_its_first_bytes(pack: match.Pack, tmp_path: Path) -> None:
    log = tmp_path / "no-suffix"
    log.write_bytes(gzip.compress(LOG) + gzip.compress(LOG))
    assert found(pack, log)[:2] == (1, [(str(log), 3)])
    assert found(pack, "-", stdin=gzip.compress(LOG))[:2] == (1, [("-", 3)])


def test_the_logs_of_an_archive_are_told_apart(pack: match.Pack, tmp_path: Path) -> None:
    archive = zipped(
        tmp_path / "runs" / "logs_42.zip",
        **{"2_Build.txt": LOG, "1_Job.txt": LOG, "a.gz": gzip.compress(LOG), "empty/": b""},
    )
    paths = [f"{archive}!/1_Job.txt", f"{archive}!/2_Build.txt", f"{archive}!/a.gz"]
    assert found(pack, archive)[:2] == (1, [(path, 3) for path in paths])
    assert found(pack, archive.parent)[:2] == (1, [(path, 3) for path in paths])  # within a folder


def test_an_archive_on_a_pipe_is_refused_in_a_sentence(pack: match.Pack, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "x.zip", a=LOG)
    code, _, err = found(pack, "-", stdin=archive.read_bytes())
    assert (code, err) == (
        3, "triage: - cannot be read: an archive cannot be read from a pipe; give its path.\n"
    )  # fmt: skip


def test_a_damaged_packed_log_is_searched_as_far_as_it_goes(pack: match.Pack, tmp_path: Path) -> None:
    log = tmp_path / "a.gz"
    packed = gzip.compress(LOG + bytes(range(256)) * 20_000)
    log.write_bytes(packed[:-2000])
    code, lines, err = found(pack, log)
    assert (code, lines) == (1, [(str(log), 3)])
    assert (
        err == f"triage: {log}: The packed log is damaged or ends too early; what stands before was read.\n"
    )


def test_a_damaged_archive_and_an_encrypted_one_name_the_next_step(pack: match.Pack, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "b.zip", a=LOG * 10)
    data = bytearray(archive.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + flags] |= 1
    (tmp_path / "c.zip").write_bytes(data)
    code, lines, err = found(pack, tmp_path / "c.zip", archive)
    assert (code, lines) == (3, [(f"{archive}!/a", 3)])
    assert err == (
        f"triage: {tmp_path}/c.zip!/a cannot be read: it is encrypted; unpack it with its password and scan "
        "the folder.\n"
    )
    (tmp_path / "d.gz").write_bytes(b"\x1f\x8b nonsense")
    code, _, err = found(pack, tmp_path / "d.gz")
    assert code == 3
    assert "d.gz cannot be read: it is damaged or packed in an unknown way (" in err
    assert err.endswith("; download it again, or unpack it and scan the folder.\n")


def test_what_a_small_file_unpacks_to_is_bounded_and_said(
    pack: match.Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_UNPACKED_MAX", 3_000_000)
    log = tmp_path / "bomb.gz"
    log.write_bytes(gzip.compress(LOG + b"x\n" * 5_000_000 + EXPIRED))
    code, lines, err = found(pack, log)
    assert (code, lines) == (1, [(str(log), 3)])
    assert "Only the first 0 GiB that it unpacks to were read." in err


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_a_log_that_powershell_wrote_is_read(pack: match.Pack, tmp_path: Path, encoding: str) -> None:
    log = tmp_path / "transcript.txt"
    log.write_bytes(("é…\r\n" * 300_000 + EXPIRED.decode()).encode(encoding))
    assert found(pack, log)[:2] == (1, [(str(log), 300_001)])


@pytest.mark.parametrize("jobs", [1, 3])
def test_logs_side_by_side_are_told_in_their_order(pack: match.Pack, tmp_path: Path, jobs: int) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for number in range(40):
        (logs / f"{number:02}.log").write_bytes(b"x\n" * (number * 7919 % 4000) + EXPIRED)
    (logs / "17.log").unlink()
    (logs / "17.log").symlink_to(tmp_path / "gone")
    code, lines, err = found(pack, logs, "-", stdin=b"", jobs=jobs)
    want = [(str(logs / f"{n:02}.log"), n * 7919 % 4000 + 1) for n in range(40) if n != 17]
    assert (code, lines) == (3, want)
    assert "17.log cannot be read" in err
