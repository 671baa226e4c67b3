from __future__ import annotations

import io
import json
import os
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
import regex

from tests.match import packs
from triage import match, scan
from triage.scan import reports

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("each_scanner")
EXPIRED = b"WIDGET-77: key 'blue' has expired\n"


@pytest.fixture
def pack(tmp_path: Path) -> match.Pack:
    packs.write(tmp_path / "rules")
    packs.write(
        tmp_path / "rules", id="widget-role", credential="other", verdict="look-alike",
        pattern="WIDGET-88", example="WIDGET-88", captures="{}", explanation='explanation = "Ask for the role."',
    )  # fmt: skip
    return match.load_pack(tmp_path / "rules")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(
    pack: match.Pack, *paths: Path | str, form: str = "json", stdin: bytes = b"", terminal: bool = False,
    **options: Any,
) -> tuple[int, str, str]:  # fmt: skip
    out, err = Terminal() if terminal else io.StringIO(), io.StringIO()
    code = scan.run(
        [str(p) for p in paths], report=reports.FORMATS[form](out), pack=pack, stdin=io.BytesIO(stdin),
        stderr=err, **options,
    )  # fmt: skip
    return code, out.getvalue(), err.getvalue()


def test_a_finding_is_one_json_object_a_line(pack: match.Pack, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"hello\r\n" + EXPIRED)
    code, out, err = run(pack, log)
    assert (code, err) == (1, "")
    assert [json.loads(line) for line in out.splitlines()] == [
        {
            "path": str(log),
            "line": 2,
            "rule": "widget-key-expired",
            "credential": "widget",
            "verdict": "expired",
            "confidence": "certain",
            "captures": {"key": "blue"},
            "excerpt": "WIDGET-77: key 'blue' has expired",
        }
    ]
    names = ["path", "line", "rule", "credential", "verdict", "confidence", "captures", "excerpt"]
    assert list(json.loads(out)) == names


def test_standard_input_is_searched_and_left_open(pack: match.Pack) -> None:
    code, out, _ = run(pack, "-", stdin=EXPIRED)
    assert (code, json.loads(out)["path"]) == (1, "-")


def test_folders_are_walked_in_order_without_hidden_ones(pack: match.Pack, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    for name in ("b/2.log", "a/1.log", ".git/3.log", "c.log", ".hidden.log"):
        (logs / name).parent.mkdir(parents=True, exist_ok=True)
        (logs / name).write_bytes(EXPIRED)
    _, out, _ = run(pack, logs)
    assert [json.loads(line)["path"] for line in out.splitlines()] == [
        str(logs / name) for name in ("c.log", "a/1.log", "b/2.log")
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
@pytest.mark.timeout(20)
def test_a_pipe_in_a_folder_does_not_block(pack: match.Pack, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert run(pack, tmp_path / "rules", tmp_path)[0] in {0, 1}


def test_a_look_alike_is_told_but_is_not_found(pack: match.Pack) -> None:
    code, out, _ = run(pack, "-", stdin=b"WIDGET-88\n")
    assert (code, json.loads(out)["verdict"]) == (0, "look-alike")
    _, told, _ = run(pack, "-", stdin=b"WIDGET-88\n", form="text")
    assert "Ask for the role." in told


@pytest.mark.parametrize("log", [b"", b"all is well\r\n", bytes(range(256)) * 100])
def test_a_log_without_a_failure_exits_zero(pack: match.Pack, log: bytes) -> None:
    assert run(pack, "-", stdin=log) == (0, "", "")
    assert run(pack, "-", stdin=log, form="text") == (0, "No expired or refused credential in 1 log.\n", "")


def test_an_unreadable_input_is_named_and_the_others_are_searched(pack: match.Pack, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(EXPIRED)
    code, out, err = run(pack, tmp_path / "gone.log", log)
    assert code == 3
    assert json.loads(out)["path"] == str(log)
    assert (
        err == f"triage: {tmp_path / 'gone.log'} cannot be read: No such file or directory; check the path.\n"
    )


def test_a_dangling_link_in_a_folder_is_told(pack: match.Pack, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "x.log").symlink_to(tmp_path / "gone")
    code, _, err = run(pack, logs)
    assert code == 3
    assert "x.log cannot be read" in err


def test_the_answer_comes_first_and_in_colour_only_on_a_terminal(
    pack: match.Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    _, plain, _ = run(pack, "-", stdin=EXPIRED, form="text")
    assert plain.splitlines()[0] == "expired The widget key has expired"
    assert "\x1b" not in plain
    assert "\x1b[" in run(pack, "-", stdin=EXPIRED, form="text", terminal=True)[1]
    monkeypatch.setenv("NO_COLOR", "1")
    no_colour = run(pack, "-", stdin=EXPIRED, form="text", terminal=True)[1]
    assert "\x1b[31m" not in no_colour
    assert "[1;31m" not in no_colour


def test_what_was_cut_is_said(pack: match.Pack, tmp_path: Path) -> None:
    log = tmp_path / "slow.log"
    log.write_bytes(EXPIRED.strip() + b" " + b"x" * 4000)
    pack.compiled[pack.rules[0].pattern] = regex.compile("(?:x+x+)+y")
    code, _, err = run(pack, log)
    assert (code, err) == (0, f"triage: {log}: Rule {pack.rules[0].id} ran out of time on line 1.\n")


def test_memory_does_not_grow_with_the_file(pack: match.Pack, tmp_path: Path) -> None:
    log = tmp_path / "big.log"
    with log.open("wb") as file:
        for _ in range(30):
            file.write(b"2026-11-21T03:00:00.0000000Z nothing to see here, WIDGET-99\n" * 17_000)
        file.write(EXPIRED)
    tracemalloc.start()
    try:
        code, out, _ = run(pack, log)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (code, json.loads(out)["line"]) == (1, 510_001)
    assert peak < 12_000_000
