from __future__ import annotations

import io
import json
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.match import leaks, packs, planted
from triage import match, scan
from triage.scan import reports

if TYPE_CHECKING:
    from pathlib import Path

SEED = 20261121
FIRST = "WIDGET-77: the upload failed: "


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> match.Pack:
    """One rule, which matches every line it is shown and captures all that follows."""
    folder = packs.write(
        tmp_path_factory.mktemp("rules"),
        pattern=r"WIDGET-77: the upload failed:\s+(?<value>\S+)(?<rest>.*)",
        example=FIRST + "at once",
        captures='{ value = "at", rest = " once" }',
    )
    return match.load_pack(folder)


def plantings(kind: planted.Kind) -> list[tuple[str, str, planted.Secret, str]]:
    """Return a secret of a kind in each of its lines and encodings: another each time."""
    chance = Random(f"{SEED} {kind.name}")
    return [
        (encoding, line, secret, encode(line.format(secret.text)))
        for line in kind.lines
        for encoding, encode in planted.ENCODINGS.items()
        for secret in [kind.make(chance)]
    ]


def test_there_are_enough_secrets_of_enough_kinds() -> None:
    assert len(planted.KINDS) >= 60
    assert len({kind.name for kind in planted.KINDS}) == len(planted.KINDS)
    assert sum(len(plantings(kind)) for kind in planted.KINDS) >= 500


@pytest.mark.parametrize("kind", planted.KINDS, ids=lambda kind: kind.name)
def test_no_piece_of_a_secret_leaves_the_matcher(pack: match.Pack, kind: planted.Kind) -> None:
    seen = []
    for encoding, line, secret, text in plantings(kind):
        found = match.search(pack, [(FIRST + text).encode()], whole=True).matches
        shown = "\n".join([found[0].excerpt, *found[0].captures.values()])
        if pieces := leaks.seen(secret.part, shown):
            seen.append(f"{encoding}: {line}: {len(pieces)} pieces in {found[0].excerpt}")
    assert seen == []


def test_no_piece_of_a_secret_is_printed_by_a_scan(pack: match.Pack, tmp_path: Path) -> None:
    secrets = []
    for kind in planted.KINDS:
        log = tmp_path / f"{kind.name.replace('/', ' ')}.log"
        planted_here = plantings(kind)[:: len(planted.ENCODINGS) + 1]  # each line, another encoding each time
        for number, (_, _, secret, text) in enumerate(planted_here):
            secrets.append(secret.part)
            log.with_suffix(f".{number}.log").write_text(f"2026-11-21T03:00:00.1234567Z {FIRST}{text}\n")
    out, err = io.StringIO(), io.StringIO()
    scan.run([str(tmp_path)], report=reports.Json(out), pack=pack, stdin=io.BytesIO(), stderr=err)
    printed = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(printed) == len(secrets)
    assert leaks.any_seen(secrets, out.getvalue() + err.getvalue()) == []


def test_a_key_broken_into_lines_does_not_leave_the_matcher(tmp_path: Path) -> None:
    """Each line of a key's body matches the rule, as it would if the key held a rule's word."""
    folder = packs.write(
        tmp_path,
        pattern="(?<key>.*qqqq.*)",
        example="qqqq",
        captures='{ key = "qqqq" }',
        counter="fine",
    )
    pack = match.load_pack(folder)
    body = [planted.some(Random(number), planted.BASE64, 60) + "qqqq" for number in range(9)]
    log = "\n".join(["-----BEGIN PRIVATE KEY-----", *body, "-----END PRIVATE KEY-----"])
    found = match.search(pack, [log.encode()], whole=True).matches
    assert len(found) == len(body)
    assert {one.excerpt for one in found} == {"***"}
    assert {one.captures["key"] for one in found} == {"***"}
