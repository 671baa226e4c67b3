"""The tools of a rule's author, as they work on the command line."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import triage as triage_package
from tests.match import packs
from tests.test_cli import triage
from triage import catalogue, match
from triage.authoring import attempt, draft
from triage.authoring import new as authoring_new
from triage.errors import UsageError
from triage.match import linear, load, proof
from triage.match.rule import Rule, compiled

ROOT = Path(__file__).parent.parent
LOG = """\
2026-11-21T03:12:00.0000000Z ##[error]widgetctl: warming up failed
2026-11-21T03:12:07.1284510Z ##[error]widgetctl: 401 key 'blue' of ada@fabrikam.com refused by https://w.fabrikam.com/v1, password=hunter22 (request 0f8fad5b-d9cb-469f-a165-70867728950e)
2026-11-21T03:12:09.0127724Z ##[error]Bash exited with code '1'.
"""


def new(tmp_path: Path, *arguments: str, log: str = LOG) -> tuple[int, str, Path]:
    """Run `rules new` in a pack of the usual rule; return exit code, what it said and the new file."""
    packs.write(tmp_path / "pack")
    (tmp_path / "build.log").write_text(log, encoding="utf-8")
    done = triage("rules", "new", "widget-refused", "--rules", str(tmp_path / "pack"), *arguments)
    return (
        done.returncode,
        (done.stdout + done.stderr).decode(),
        tmp_path / "pack/widgets/widget-refused.toml",
    )


def check(path: Path, tmp_path: Path) -> list[str]:
    done = triage("rules", "check", str(path), settings={"TRIAGE_RULES__PATH": str(tmp_path / "pack")})
    return done.stderr.decode().splitlines()[1:]


# rules new


def test_a_new_rule_is_drafted_from_the_last_line_that_tells_a_cause(tmp_path: Path) -> None:
    code, said, file = new(tmp_path, "--from", str(tmp_path / "build.log"))
    assert code == 0
    assert f"from line 2 of {tmp_path}/build.log" in said
    assert f"triage rules check {file}" in said
    stated = tomllib.loads(file.read_text(encoding="utf-8"))
    assert (stated["id"], stated["credential"], stated["verdict"]) == ("widget-refused", "widget", "rejected")
    (example,) = stated["examples"]
    assert example["captures"] == {
        "key": "blue",
        "user": "ada@contoso.example",
        "host": "w.fabrikam.com",
        "request": "11111111-2222-3333-4444-555555555555",
    }
    line = LOG.splitlines()[1]
    assert compiled(stated["pattern"]).search(line)
    assert compiled(stated["pattern"]).search(line.replace("blue", "red").replace("0f8f", "1111"))
    assert not compiled(stated["pattern"]).search(line.replace("refused", "taken"))


def test_a_draft_holds_no_secret_and_nobodys_name_or_id(tmp_path: Path) -> None:
    _, _, file = new(tmp_path, "--from", str(tmp_path / "build.log"))
    text = file.read_text(encoding="utf-8")
    for private in ("hunter22", "ada@fabrikam.com", "0f8fad5b"):
        assert private not in text
    assert "password=***" in text


def test_a_draft_has_every_key_in_its_order_with_its_meaning(tmp_path: Path) -> None:
    _, _, file = new(tmp_path)
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#:schema ../rule.schema.json"
    assert (tmp_path / "pack/rule.schema.json").exists()
    keys = [
        found[1] for line in lines if (found := re.match(r"(?:# )?(\w+) = |\[\[(\w+)", line)) and found[1]
    ]
    tables = {"examples", "counter_examples"}
    assert keys == [key for key in Rule.model_fields if key not in tables] + [
        "log",
        "line",
        "captures",
        "log",
        "reason",
    ]
    stated = tomllib.loads(file.read_text(encoding="utf-8"))
    assert not {"unless", "near", "within", "time", "yields_to"} & set(stated)
    assert all(len(line) <= 110 for line in lines)


def test_check_names_what_a_draft_still_lacks_and_nothing_else(tmp_path: Path) -> None:
    _, _, file = new(tmp_path, "--from", str(tmp_path / "build.log"))
    assert [problem.strip() for problem in check(file, tmp_path)] == [
        "widgets/widget-refused.toml: title: is empty; fill it in",
        "widgets/widget-refused.toml: references: needs at least one",
        "widgets/widget-refused.toml: counter_examples.1.log: is empty; fill it in",
        "widgets/widget-refused.toml: counter_examples.1.reason: is empty; fill it in",
    ]
    filled = (
        file.read_text(encoding="utf-8")
        .replace('title = ""', 'title = "x"')
        .replace("references = []", 'references = ["x"]')
    )
    file.write_text(
        filled.replace('log = ""', 'log = "x"').replace('reason = ""', 'reason = "x"'), encoding="utf-8"
    )
    assert check(file, tmp_path) == []


def test_a_new_rule_goes_where_it_is_told_or_to_its_kin(tmp_path: Path) -> None:
    _, _, file = new(tmp_path)
    assert file.exists()
    done = triage("rules", "new", "gadget-refused", "--rules", str(tmp_path / "pack"))
    assert (tmp_path / "pack/other/gadget-refused.toml").exists(), done.stderr
    triage("rules", "new", "gizmo-refused", "--group", "saas", "--rules", str(tmp_path / "pack"))
    assert (tmp_path / "pack/saas/gizmo-refused.toml").exists()


def test_a_line_can_be_named_and_the_rule_that_matches_it_already_is_told(tmp_path: Path) -> None:
    log = f"{packs.DEFAULTS['example']}\n{LOG}"
    code, said, _ = new(tmp_path, "--from", str(tmp_path / "build.log"), "--line", "1", log=log)
    assert code == 0
    assert "from line 1" in said
    assert "The rule widget-key-expired matches this line already" in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["Widget"], "made of a-z, 0-9 and -"),
        (["../x"], "made of a-z, 0-9 and -"),
        (["x", "--group", "../x"], "made of a-z, 0-9 and -"),
        (["x", "--group", "renewal"], "holds recipes"),
        (["x", "--line", "3"], "--from"),
        (["x", "--from", "gone.log"], "gone.log cannot be read"),
        (["widget-key-expired"], "exists already"),
    ],
)
def test_what_cannot_be_a_new_rule_is_refused_and_nothing_written(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    folder = packs.write(tmp_path / "pack")
    before = {file: file.read_bytes() for file in folder.rglob("*.toml")}
    done = triage("rules", "new", *arguments, "--rules", str(folder))
    assert told in done.stderr.decode()
    assert done.returncode in (2, 3)
    assert {file: file.read_bytes() for file in folder.rglob("*.toml")} == before


def test_a_secret_at_the_edge_of_what_is_taken_is_masked_too(tmp_path: Path) -> None:
    token = "eyJ" + "a" * 900 + "." + "SECRET" * 200 + "." + "z" * 20
    log = f"{'x ' * 900}{token} refused {token}"
    _, _, file = new(tmp_path, "--from", str(tmp_path / "build.log"), log=log)
    assert "SECRET" not in file.read_text(encoding="utf-8")


def test_the_installed_pack_is_no_place_to_write_to() -> None:
    with pytest.raises(UsageError, match="name your own pack's folder"):
        authoring_new.folder(Path(triage_package.__file__).parent / "rules")


def test_of_a_very_long_line_the_part_that_complains_is_taken(tmp_path: Path) -> None:
    long = " ".join(f"w{n}" for n in range(50_000)) + " widgetctl: token refused " + "tail " * 10_000
    _, _, file = new(tmp_path, "--from", str(tmp_path / "build.log"), log=long)
    assert file.stat().st_size < 10_000
    assert "widgetctl: token refused" in tomllib.loads(file.read_text(encoding="utf-8"))["pattern"]
    done = triage("rules", "try", str(file), str(tmp_path / "build.log"), "--rules", str(tmp_path / "pack"))
    assert b"token refused" in done.stdout
    assert len(done.stdout) < 2000
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("log", "arguments", "told"),
    [
        ("all is well\n", [], "name the line with --line"),
        ("x\n", ["--line", "7"], "no text on line 7; it has"),
    ],
)
def test_a_log_without_a_likely_line_asks_for_one(
    tmp_path: Path, log: str, arguments: list[str], told: str
) -> None:
    code, said, file = new(tmp_path, "--from", str(tmp_path / "build.log"), *arguments, log=log)
    assert told in said
    assert code == 2
    assert not file.exists()


def test_a_pattern_can_be_proposed_for_every_line_that_the_shipped_rules_know() -> None:
    """What is proposed matches its line, is a pattern of a rule, and lets what changes change."""
    failed = []
    for _, rule in load.read(match.shipped_rules())[0]:
        for example in rule.examples:
            text = draft.anonymous(example.log.strip().splitlines()[-1].strip())
            if len(text) < 20 or not re.search(r"[A-Za-z]{4}", text):
                continue
            proposed = draft.pattern(text)
            if len(proposed) > 1024 or not linear.parse(proposed) or not compiled(proposed).search(text):
                failed.append((text, proposed))
    assert failed == []


# rules show


def show(*arguments: str) -> str:
    done = triage("rules", "show", *arguments)
    return (done.stdout + done.stderr).decode()


def test_the_list_can_be_filtered(tmp_path: Path) -> None:
    folder = packs.write(tmp_path)
    packs.write(tmp_path, id="gadget-lost", credential="gadget", verdict="missing", counter="x")
    for arguments, wanted in (
        ([], ["gadget-lost", "widget-key-expired"]),
        (["--verdict", "missing"], ["gadget-lost"]),
        (["--credential", "widget"], ["widget-key-expired"]),
        (["--credential", "widget", "--verdict", "missing"], []),
    ):
        rows = show(*arguments, "--rules", str(folder)).splitlines()
        assert rows[0].split() == ["id", "credential", "verdict", "confidence", "title"]
        assert [row.split()[0] for row in rows[1:-1]] == wanted
        listed = show(*arguments, "--rules", str(folder), "--format", "json").splitlines()
        assert [json.loads(row)["id"] for row in listed] == wanted
    assert "did you mean widget?" in show("--credential", "widgit", "--rules", str(folder))


def test_one_rule_is_told_in_full() -> None:
    told = show("acr-unauthorized-nearby")
    for shown in (
        "Azure Container Registry refuses the push or pull",
        "azure-container-registry, rejected, likely",
        "failed to fetch (?:oauth|anonymous) token",
        "near, ±30 lines",
        "docker\\.io/|ghcr\\.io/",
        "azure-firewall",
        "another registry in the same step",
        "because: another registry",
        "acr-automatic: Save 'connection name' once",
        "https://learn.microsoft.com/azure/container-registry",
    ):
        assert shown in told
    assert "acr-unauthorized-nearby" in show("acr-invalid-client").split("yield to it")[1].split("recipe")[0]
    full = json.loads(show("acr-invalid-client", "--format", "json"))
    assert "acr-unauthorized-nearby" in full["yielded_by"]
    assert full["recipes"][-1] == {"id": "acr-token", "title": full["recipes"][-1]["title"], "when": ""}
    look_alike = json.loads(show("--verdict", "look-alike", "--format", "json").splitlines()[0])
    assert "there is nothing to renew" in show(look_alike["id"])


def test_of_the_recipes_none_stands_after_one_that_always_applies() -> None:
    for entry in catalogue.read().entries.values():
        conditions = [recipe.when for recipe in entry.recipes]
        assert "" not in conditions[:-1]
        assert bool(conditions) == (entry.rule.verdict != "look-alike")


def test_an_unknown_rule_brings_the_closest_ids() -> None:
    done = triage("rules", "show", "acr-invalid-clint")
    assert "did you mean acr-invalid-client" in done.stderr.decode()
    assert done.returncode == 2


# rules try

EXPIRED = packs.DEFAULTS["example"]


def tried(tmp_path: Path, log: str, **changes: str) -> dict[str, Any]:
    """Try the usual rule, changed, on a log; return what `--format json` says."""
    folder = packs.write(tmp_path / "pack", **changes)
    name = changes.get("id", "widget-key-expired")
    arguments = ("rules", "try", name, "-", "--format", "json", "--rules", str(folder))
    done = triage(*arguments, stdin=log.encode())
    told: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if told["reported"] else 1)
    return told


def only(told: dict[str, Any]) -> tuple[str, str]:
    (line,) = told["lines"]
    return line["outcome"], " ".join(line["why"])


def test_a_match_shows_its_line_and_captures(tmp_path: Path) -> None:
    told = tried(tmp_path, f"fine\n{EXPIRED}; password=hunter22\n")
    (line,) = told["lines"]
    assert (line["line"], line["outcome"], line["captures"]) == (2, "matches", {"key": "blue"})
    assert line["text"].endswith("password=***")
    assert told["conclusion"] == "triage reports widget-key-expired on line 2."


@pytest.mark.parametrize(
    ("log", "conditions", "outcome", "why"),
    [
        ("WIDGET-77: key 'blue' has", "", "refused", "then wants ‹ expired› where the line ends"),
        (
            "WIDGET-77: key 'blue' was expired",
            "",
            "refused",
            "‹WIDGET-77: key '(?<key>[^']{1,40})' ›, then wants ‹has expired› where the line has ‹was expired›",
        ),
        (f"{EXPIRED} in a test", "unless = ['a pony', 'in a test']", "refused", "unless vetoes: ‹in a test›"),
        (
            EXPIRED,
            "near = ['gadget']\nwithin = 3",
            "refused",
            "within 3 lines before or after matches ‹gadget›",
        ),
        (f"gadget\n{EXPIRED}", "not_near = ['gadget']", "refused", "not_near vetoes"),
        (
            f"{EXPIRED}\none\ntwo",
            "followed_by = ['one', 'six']",
            "refused",
            "none of the next 10 lines that are left, in this order, matches ‹six›",
        ),
        (f"+ {EXPIRED}", "", "left out", "only quotes a message"),
        (f"Script contents:\n{EXPIRED}", "", "left out", "only quotes a message"),
        (f"{EXPIRED}\nretrying", "", "matches", "provisional"),
        (f"{EXPIRED}\nretrying\nlogin succeeded", "", "dropped", "overcome: line 3"),
    ],
)
def test_a_line_that_does_not_count_says_which_condition_refused_it(
    tmp_path: Path, log: str, conditions: str, outcome: str, why: str
) -> None:
    said, reason = only(tried(tmp_path, log, conditions=conditions))
    assert said == outcome
    assert why in reason


def test_what_comes_after_the_fit_is_masked_as_part_of_its_line(tmp_path: Path) -> None:
    changes = {
        "pattern": "WIDGET-77: login password=(?<key>blue)",
        "example": "WIDGET-77: login password=blue",
    }
    _, why = only(tried(tmp_path, "WIDGET-77: login password=hunter22", **changes))
    assert "where the line has ‹***›" in why
    assert "hunter" not in why


def test_dates_that_do_not_prove_it_are_told(tmp_path: Path) -> None:
    changes = {"pattern": "widget key ends (?<not_after>.{19})", "conditions": 'time = "expired"'}
    log = "2026-11-21T03:12:00.0000000Z widget key ends {}-01-01 00:00:00"
    assert only(tried(tmp_path, log.format(2020), **changes)) == ("matches", "")
    said, why = only(tried(tmp_path, log.format(2030), **changes))
    assert said == "refused"
    assert "not_after = 2030-01-01 00:00:00" in why
    assert "time stamp" in why


def test_the_rule_that_wins_is_named(tmp_path: Path) -> None:
    rival = {"id": "widget-any", "pattern": "WIDGET-77", "captures": "{}", "confidence": "likely"}
    packs.write(tmp_path / "pack")
    told = tried(tmp_path, EXPIRED, **rival)
    assert only(told) == (
        "dropped",
        "weaker than widget-key-expired, which speaks for the same family of credentials",
    )
    assert "It reports widget-key-expired (line 1)." in told["conclusion"]
    told = tried(tmp_path, EXPIRED, **rival, conditions='yields_to = ["widget-key-expired"]')
    assert only(told)[1].startswith("yields to widget-key-expired")


def test_a_log_that_holds_nothing_like_it_says_what_was_looked_for(tmp_path: Path) -> None:
    told = tried(tmp_path, "all is well\n")
    assert told["lines"] == []
    assert 'no line holds what every match needs, "widget-77: key \'"' in told["conclusion"]


def test_a_file_can_be_tried_before_it_is_finished(tmp_path: Path) -> None:
    _, _, file = new(tmp_path, "--from", str(tmp_path / "build.log"))
    done = triage("rules", "try", str(file), str(tmp_path / "build.log"), "--rules", str(tmp_path / "pack"))
    text = done.stdout.decode()
    assert f"matches  {tmp_path}/build.log:2" in text
    assert "triage reports widget-refused on line 2." in text
    assert "hunter22" not in text
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("named", "told", "code"),
    [
        ("acr-invalid-clint", "did you mean acr-invalid-client", 2),
        ("pack/wrong.toml", "wrong.toml: pattern:", 4),
    ],
)
def test_what_cannot_be_tried_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, told: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    packs.write_text(tmp_path, "x", "")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/wrong.toml").write_text(packs.RULE.format(**{**packs.DEFAULTS, "pattern": "77("}))
    done = triage("rules", "try", named, "-")
    assert told in done.stderr.decode()
    assert done.returncode == code


def test_trying_agrees_with_scanning() -> None:
    """For every example of a family: it is reported when the whole pack, scanned as ever, reports it."""
    pack = match.load_pack()
    rules = [rule for _, rule in load.read(match.shipped_rules())[0]]
    for rule in [rule for rule in rules if rule.credential == "azure-container-registry"]:
        log = rule.examples[0].log.encode()
        scanned = rule.id in {found.rule for found in match.search(pack, [log]).matches}
        assert attempt.run(rule, [each for each in rules if each is not rule], log).reported == scanned


# rules check


def test_problems_stand_file_by_file(tmp_path: Path) -> None:
    packs.write(tmp_path, id="one", verdict="lapsed", confidence="sure")
    packs.write(tmp_path, id="two", example="WIDGET-77 is well")
    told = triage("rules", "check", str(tmp_path)).stderr.decode()
    assert told.startswith("triage: The rule pack has 3 mistakes in 2 files:\n  widgets/one.toml: verdict: ")
    assert "\n\n  widgets/two.toml: examples.1: the rule does not match it\n" in told


def test_one_file_is_checked_among_the_others(tmp_path: Path) -> None:
    packs.write(tmp_path / "pack")
    packs.write(tmp_path / "pack", id="broken", verdict="lapsed")
    (tmp_path / "mine.toml").write_text(
        packs.RULE.format(**{**packs.DEFAULTS, "id": "mine", "verdict": "rejected"})
    )
    (problem,) = check(tmp_path / "mine.toml", tmp_path)
    assert "mine.toml: examples.1: 'widget-key-expired' matches it too, as surely" in problem
    assert check(tmp_path / "pack/widgets/widget-key-expired.toml", tmp_path) == []


def test_a_files_advice_and_a_recipes_file_are_checked_too(tmp_path: Path) -> None:
    folder = packs.write(tmp_path / "pack", conditions='advice = "pray"')
    (problem,) = check(folder / "widgets/widget-key-expired.toml", tmp_path)
    assert "advice: there is no recipe 'pray'" in problem
    (folder / "renewal").mkdir()
    recipe = (ROOT / "rules/renewal/any-connection.toml").read_text(encoding="utf-8")
    (folder / "renewal/any-connection.toml").write_text(recipe, encoding="utf-8")
    assert check(folder / "renewal/any-connection.toml", tmp_path) == []
    (folder / "renewal/any-connection.toml").write_text(recipe.replace("steps", "stebs"), encoding="utf-8")
    assert (
        "renewal/any-connection.toml: renewal.ste"
        in check(folder / "renewal/any-connection.toml", tmp_path)[0]
    )


def test_many_rules_are_proven_by_several_processes_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = "WIDGET-77: key '(?<key>blue)' has expired|WIDGET-77.*7.*7.*7.*7.*7.*7.*z"
    for number in range(70):
        changes = {"pattern": slow} if number in (3, 40) else {}
        packs.write(tmp_path, id=f"widget-{number:02}", **changes)
    monkeypatch.setattr(proof, "_cores", lambda: 2)
    problems = match.check(tmp_path)
    assert [problem.split(": takes longer")[0] for problem in problems] == [
        "widgets/widget-03.toml: pattern",
        "widgets/widget-40.toml: pattern",
    ]
    monkeypatch.setattr(proof, "_cores", lambda: 1)
    assert match.check(tmp_path) == problems
