from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import regex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.match import packs
from triage import match

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("each_scanner")
EXPIRED = b"WIDGET-77: key 'blue' has expired"


@pytest.fixture
def pack(tmp_path: Path) -> match.Pack:
    return match.load_pack(packs.write(tmp_path))


def lines_of(pack: match.Pack, log: bytes) -> list[int]:
    return [m.line for m in match.search(pack, [log]).matches]


def test_a_match_tells_line_captures_and_text(pack: match.Pack) -> None:
    log = b"starting\r\n2026-11-21T03:00:00.0000000Z \x1b[31m" + EXPIRED + b"\x1b[0m\r\ndone\r\n"
    result = match.search(pack, [log])
    (found,) = result.matches
    assert (found.line, dict(found.captures), found.excerpt) == (2, {"key": "blue"}, EXPIRED.decode())
    assert result.cut == ()


@pytest.mark.parametrize("log", [b"", b"\n\n\n", bytes(range(256)) * 40, b"\x00" * 10_000, b"\xff\xfe" * 999])
def test_an_empty_or_binary_log_holds_nothing(pack: match.Pack, log: bytes) -> None:
    assert lines_of(pack, log) == []


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_where_chunks_are_cut_does_not_matter(pack: match.Pack, size: int) -> None:
    log = b"one\ntwo\n" + EXPIRED + b"\nfour"
    chunks = [log[at : at + size] for at in range(0, len(log), size)]
    assert [m.line for m in match.search(pack, chunks).matches] == [3]


def test_only_line_feeds_count_as_lines(pack: match.Pack) -> None:
    log = "a\u0085b\u2028c\rd\x0be\n".encode() + EXPIRED
    assert lines_of(pack, log) == [2]


def test_lines_are_counted_across_many_blocks(pack: match.Pack) -> None:
    log = b"nothing to see here\n" * 100_000 + EXPIRED
    assert lines_of(pack, log) == [100_001]


def test_a_message_printed_over_a_progress_bar_is_found(pack: match.Pack) -> None:
    assert lines_of(pack, b"10%\r55%\r" + EXPIRED + b"\r\n") == [1]


@pytest.mark.parametrize("before", [0, 1, 4000, 1_048_570, 20_000_000])
def test_an_endless_line_is_read_whole(pack: match.Pack, before: int) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"first\n"
        for _ in range(before // 1_000_000):
            yield b"x" * 1_000_000
        yield b"x" * (before % 1_000_000) + EXPIRED
        yield b"y" * 3_000_000 + b"\n"

    result = match.search(pack, chunks())
    assert [(m.line, dict(m.captures)) for m in result.matches] == [(2, {"key": "blue"})]
    assert result.cut == ()


def test_a_message_far_in_a_long_line_is_what_the_excerpt_shows(pack: match.Pack) -> None:
    (found,) = match.search(pack, [b"x" * 5000 + b" " + EXPIRED + b" " + b"y" * 5000]).matches
    assert EXPIRED.decode() in found.excerpt
    assert len(found.excerpt) < 310


def test_an_extract_keeps_the_true_line_numbers(pack: match.Pack) -> None:
    result = match.search(pack, [b"a\n" + EXPIRED], line_numbers=(17, 912))
    assert [m.line for m in result.matches] == [912]


def test_secrets_beside_a_match_are_masked_in_text_and_captures(tmp_path: Path) -> None:
    folder = packs.write(
        tmp_path,
        pattern="WIDGET-77: .{0,40}password=(?<key>[^;]{1,40}) has expired",
        example="WIDGET-77: password=*** has expired",
        captures='{ key = "***" }',
    )
    log = b"WIDGET-77: user=robot;password=" + b"Tr0ub4dor" + b" has expired"
    (found,) = match.search(match.load_pack(folder), [log]).matches
    assert "Tr0ub4dor" not in found.excerpt
    assert dict(found.captures) == {"key": "***"}


@pytest.mark.parametrize(
    "line", [b'+ echo "%s"', b"##[command]grep '%s'", b"// %s", b"PASSED %s", b" 12 | throw '%s'"]
)
def test_a_quoted_signature_is_no_finding(pack: match.Pack, line: bytes) -> None:
    assert lines_of(pack, line % EXPIRED) == []


def test_a_warning_that_a_later_success_overcame_is_no_finding(pack: match.Pack) -> None:
    log = b"##[warning]" + EXPIRED + b"\nretrying in 5 s\nLogin Succeeded\n"
    assert lines_of(pack, log) == []
    assert lines_of(pack, log + EXPIRED) == [4]


def test_a_failure_after_a_successful_login_is_a_finding(pack: match.Pack) -> None:
    assert lines_of(pack, b"Login Succeeded\n" + EXPIRED) == [2]
    assert lines_of(pack, EXPIRED + b"\nLogin Succeeded\n") == [1]


def test_an_error_of_the_agent_counts_though_a_warning_before_it_was_overcome(pack: match.Pack) -> None:
    log = b"##[warning]" + EXPIRED + b"\nretrying\n##[error]" + EXPIRED + b"\nLogin Succeeded\n"
    assert lines_of(pack, log) == [3]


@pytest.mark.parametrize(
    ("log", "lines"),
    [
        (b"=== RUN   TestA\n%s\nok  \tcontoso/a\t0.1s\n", []),
        (b"%s\n[INFO] Tests run: 6, Failures: 0, Errors: 0\n", []),
        (b"%s\n" + b"x\n" * 400 + b"[INFO] Tests run: 6, Failures: 0, Errors: 0\n", [1]),
        (b"[INFO] Running com.contoso.ATest\n[INFO] Tests run: 6, Failures: 0\n%s\n", [3]),
        (b"=== RUN   TestA\n##[error]%s\nFAIL\tcontoso/a\t0.1s\n", [2]),
        (b"test\n%s\n##[error]%s\nTests run: 6, Failures: 1\n", [3]),
    ],
)
def test_what_a_test_run_prints_is_no_finding(pack: match.Pack, log: bytes, lines: list[int]) -> None:
    assert lines_of(pack, log.replace(b"%s", EXPIRED)) == lines


def test_a_veto_in_the_same_line_wins(tmp_path: Path) -> None:
    pack = match.load_pack(packs.write(tmp_path, conditions="unless = ['will be renewed']"))
    assert lines_of(pack, EXPIRED + b" and will be renewed") == []


@pytest.mark.parametrize("filler", [1, 3])
@pytest.mark.parametrize("near_first", [True, False])
def test_a_rule_looks_around_its_line_within_its_bounds(
    tmp_path: Path,
    filler: int,
    near_first: bool,  # noqa: FBT001
) -> None:
    folder = packs.write(
        tmp_path,
        conditions="near = ['^widget step$']\nwithin = 2",
        example="widget step\nWIDGET-77: key 'blue' has expired",
        captures='{ key = "blue" }\nline = 2',
    )
    parts = [b"widget step", *[b"-"] * filler, EXPIRED]
    log = b"\n".join(parts if near_first else parts[::-1])
    assert bool(lines_of(match.load_pack(folder), log)) is (filler == 1)


def test_a_rule_looks_around_its_line_across_blocks(tmp_path: Path) -> None:
    folder = packs.write(
        tmp_path,
        conditions="near = ['^before$', '^after$']\nwithin = 1",
        example="before\nWIDGET-77: key 'blue' has expired\nafter",
        captures='{ key = "blue" }\nline = 2',
    )
    pack = match.load_pack(folder)
    for length in range(512 * 1024 - 60, 512 * 1024 + 4):
        log = [b"x" * (length - 8) + b"\nbefore\n" + EXPIRED + b"\n", b"after\n"]
        assert [m.line for m in match.search(pack, log).matches] == [3]


def test_the_surer_rule_of_a_family_speaks_alone(tmp_path: Path) -> None:
    packs.write(tmp_path)
    folder = packs.write(
        tmp_path, id="widget-refused", verdict="rejected", confidence="likely", literal="REFUSED",
        pattern="WIDGET REFUSED", example="WIDGET REFUSED", captures="{}",
    )  # fmt: skip
    found = match.search(match.load_pack(folder), [b"WIDGET REFUSED\n" + EXPIRED]).matches
    assert [m.rule for m in found] == ["widget-key-expired"]


def test_a_rule_yields_to_the_one_it_names(tmp_path: Path) -> None:
    packs.write(tmp_path)
    folder = packs.write(
        tmp_path, id="widget-general", credential="other", verdict="rejected",
        pattern="WIDGET-77", captures="{}", conditions='yields_to = ["widget-key-expired"]',
        counter="WIDGET-78",
    )  # fmt: skip
    found = match.search(match.load_pack(folder), [EXPIRED]).matches
    assert [m.rule for m in found] == ["widget-key-expired"]


def test_a_rule_that_runs_out_of_time_is_set_aside_and_said(tmp_path: Path) -> None:
    rules = match.load_pack(packs.write(tmp_path)).rules
    slow = match.build(rules)
    slow.compiled[rules[0].pattern] = regex.compile("(?:x+x+)+y")
    log = (EXPIRED + b" " + b"x" * 4000 + b"\n") * 5
    result = match.search(slow, [log])
    assert len(result.cut) == 3
    assert result.cut[-1] == "Rule widget-key-expired ran out of time on line 3 and was set aside."


def test_our_own_token_is_masked_in_text_and_captures(pack: match.Pack) -> None:
    (found,) = match.search(pack, [EXPIRED], own=["blue"]).matches
    assert (found.excerpt, dict(found.captures)) == ("WIDGET-77: key '***' has expired", {"key": "***"})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40), st.sampled_from([EXPIRED, b"\n", b"\r", b"\x1b[", b"Script contents:\n"])
        )
    )
)
def test_no_bytes_make_the_search_fail(pack: match.Pack, chunks: list[bytes]) -> None:
    result = match.search(pack, chunks)
    log = b"".join(chunks)
    for found in result.matches:
        assert b"WIDGET-77" in log.split(b"\n")[found.line - 1].replace(b"\x00", b"")


def test_a_rule_may_ask_for_later_lines_in_order(tmp_path: Path) -> None:
    example = EXPIRED.decode() + "\ncause: old\nand\ngiving up"
    conditions = "followed_by = ['^cause: ', 'giving up']\nwithin = 3"
    pack = match.load_pack(packs.write(tmp_path, conditions=conditions, example=example))
    after = [b"cause: old", b"and", b"giving up"]
    assert lines_of(pack, b"\n".join([EXPIRED, *after])) == [1]
    assert lines_of(pack, b"\n".join([EXPIRED, *reversed(after)])) == []
    assert lines_of(pack, b"\n".join([EXPIRED, b"x", *after])) == []


def test_a_date_in_the_text_decides_for_a_rule_that_compares_times(tmp_path: Path) -> None:
    pack = match.load_pack(
        packs.write(
            tmp_path,
            conditions='time = "expired"',
            pattern=r"WIDGET-77: refused, ends (?<not_after>\S{10,30})(?: now (?<current>\S{10,30}))?",
            example="WIDGET-77: refused, ends 2026-01-01T00:00:00Z now 2026-01-02T00:00:00Z",
            captures='{ not_after = "2026-01-01T00:00:00Z", current = "2026-01-02T00:00:00Z" }',
            counter="WIDGET-77: refused, ends 2026-01-03T00:00:00Z now 2026-01-02T00:00:00Z",
        )
    )
    refused = b"WIDGET-77: refused, ends 2026-01-01T00:00:00Z"
    assert lines_of(pack, refused) == []
    assert lines_of(pack, b"2025-12-31T23:59:59.0000000Z " + refused) == []
    assert lines_of(pack, b"2026-01-01T00:00:01.0000000Z " + refused) == [1]
