"""The formats of `triage scan`, read as their readers read them."""

from __future__ import annotations

import gzip
import io
import json
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from tests.match import packs
from triage import match, scan
from triage.scan import reports

if TYPE_CHECKING:
    from pathlib import Path

EXPIRED = "WIDGET-77: key 'blue' has expired\n"
# What a log's author would like a pipeline's agent, a viewer or a parser to do.
HOSTILE = (
    "##vso[task.setvariable variable=x]y ##[section] <script>alert(1)</script> ]]> | `` ``` [a](http://b) "
    "100%25; \x1b[31m \u202e ]\r##vso[task.complete result=Succeeded;] "
)


@pytest.fixture
def pack(tmp_path: Path) -> match.Pack:
    folder = packs.write(
        tmp_path / "rules", pattern="WIDGET-77: key '(?<key>[^']{1,40})' has expired.{0,400}"
    )
    packs.write(
        folder, id="widget-role", credential="other", verdict="look-alike",
        pattern="WIDGET-88", example="WIDGET-88", captures="{}", explanation='explanation = "Ask for the role."',
    )  # fmt: skip
    packs.write(
        folder, id="widget-hint", credential="gadget", confidence="hint", verdict="rejected",
        pattern="WIDGET-99", example="WIDGET-99", captures="{}",
    )  # fmt: skip
    return match.load_pack(folder)


def told(pack: match.Pack, form: str, *paths: Path | str, exit_zero: bool = False) -> tuple[int, str]:
    out = io.StringIO()
    code = scan.run(
        map(str, paths), pack=pack, report=reports.FORMATS[form](out), stdin=io.BytesIO(), stderr=io.StringIO(),
        exit_zero=exit_zero,
    )  # fmt: skip
    return code, out.getvalue()


@pytest.fixture
def logs(tmp_path: Path) -> tuple[Path, Path, Path]:
    good, bad, odd = tmp_path / "good.log", tmp_path / "bad; 100%.log", tmp_path / "odd.log"
    good.write_text("all is well\nWIDGET-88\n")
    bad.write_text("one\n" + EXPIRED + "WIDGET-99\n")
    odd.write_bytes((EXPIRED.strip() + " " + HOSTILE).encode() + b"\xff\n")
    return good, bad, odd


@pytest.mark.parametrize("form", reports.FORMATS)
def test_nothing_in_a_log_is_obeyed_by_the_agent(
    pack: match.Pack, logs: tuple[Path, Path, Path], form: str
) -> None:
    code, out = told(pack, form, *logs)
    assert code == 1
    lines = out.splitlines()
    if form == "azure":
        commands = [re.findall(r"##(?:vso)?\[[^\]]*\]", line, re.IGNORECASE) for line in lines]
        assert all(
            len(each) <= 1 and line.startswith(each[0])
            for each, line in zip(commands, lines, strict=True)
            if each
        )
        assert all(each[0].startswith("##vso[task.logissue ") for each in commands if each)
    else:
        assert not re.search(r"##(?:vso)?\[", out, re.IGNORECASE)
    assert "\x1b" not in out
    assert "\u202e" not in out or form in {"text", "json", "sarif"}


def test_logging_commands_carry_place_rule_and_message(
    pack: match.Pack, logs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    good, bad, _ = logs
    place = f"sourcepath={tmp_path}/bad%3B 100%AZP25.log"
    error = "The widget key has expired (expired): WIDGET-77: key 'blue' has expired"
    warning = "The widget key has expired (rejected): WIDGET-99"
    assert told(pack, "azure", good, bad)[1].splitlines() == [
        f"Look-alike: The widget key has expired ({good}:2)",
        f"##vso[task.logissue type=error;{place};linenumber=2;code=widget-key-expired]{error}",
        f"##vso[task.logissue type=warning;{place};linenumber=3;code=widget-hint]{warning}",
    ]


def test_sarif_points_at_lines_and_describes_its_rules(
    pack: match.Pack, logs: tuple[Path, Path, Path]
) -> None:
    sarif = json.loads(told(pack, "sarif", *logs, "/gone.log")[1])
    assert (sarif["version"], len(sarif["runs"])) == ("2.1.0", 1)
    run = sarif["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["widget-role", "widget-key-expired", "widget-hint"]
    results = run["results"]
    assert [rules[each["ruleIndex"]]["id"] for each in results] == [each["ruleId"] for each in results]
    assert [each["level"] for each in results] == ["note", "error", "warning", "error"]
    place = results[1]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"].endswith("/bad%3B%20100%25.log")
    assert place["region"]["startLine"] == 2
    assert run["invocations"][0]["executionSuccessful"] is False
    assert (
        "/gone.log cannot be read"
        in run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"]
    )


def test_junit_counts_a_log_as_a_test(pack: match.Pack, logs: tuple[Path, Path, Path]) -> None:
    root = ET.fromstring(told(pack, "junit", *logs, "/gone.log")[1].encode())
    (suite,) = root
    assert (suite.tag, suite.get("tests"), suite.get("failures"), suite.get("errors")) == (
        "testsuite",
        "5",
        "3",
        "1",
    )
    passed, failed = suite[0], suite[1]
    assert passed.find("failure") is None
    assert "Ask for the role." in (passed.findtext("system-out") or "")
    assert (failed.find("failure") or failed[0]).get("type") == "expired"
    assert "key 'blue' has expired" in (failed.findtext("failure") or "")


def test_markdown_gives_the_answer_in_its_heading(pack: match.Pack, logs: tuple[Path, Path, Path]) -> None:
    good, bad, _ = logs
    lines = told(pack, "markdown", good, bad)[1].splitlines()
    assert lines[0] == "## 2 expired or refused credentials in 2 logs"
    assert "**The widget key has expired** – expired, certain" in lines
    assert "WIDGET-77: key 'blue' has expired" in lines
    assert lines.index("### Besides") < lines.index("Ask for the role.")
    assert told(pack, "markdown", good)[1].startswith("## No expired or refused credential in 1 log\n")


def test_what_was_not_read_is_in_the_result(pack: match.Pack, tmp_path: Path) -> None:
    log = tmp_path / "cut.gz"
    log.write_bytes(gzip.compress(bytes(range(256)) * 20_000)[:-2000])
    for form in set(reports.FORMATS) - {"text"}:  # which says it on stderr alone
        assert "damaged or ends too early" in told(pack, form, log)[1], form


def test_a_step_need_not_fail(pack: match.Pack, logs: tuple[Path, Path, Path]) -> None:
    assert told(pack, "text", *logs, exit_zero=True)[0] == 0
    assert told(pack, "text", "/gone.log", exit_zero=True)[0] == 3
