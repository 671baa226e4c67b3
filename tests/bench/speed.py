"""Measure how fast logs are searched, as ratios to other tools and methods within one run.

`python -m tests.bench.speed [--mb 1000]` makes logs of so many megabytes in the system's temporary folder
(TMPDIR), one after the other, and takes minutes. `--mb 2` is a quick look that everything runs; its figures
mean nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import regex

from tests.bench import hostile, logs, report
from tests.bench.report import Row, tell
from triage import match
from triage.bootstrap import ROOT
from triage.match import pack as packs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.bench.hostile import Tried
    from tests.bench.logs import Maker
    from triage.match import Pack, Rule

T = TypeVar("T")
CHUNK = 1024 * 1024
ROUNDS = 3
EARNEST = 100  # megabytes; below, everything is only tried
FEW_RULES, MANY_RULES = 180, 1000
JOBS = 4
LARGE = 250  # megabytes: a file beside which the start of a process is little
_RG = "Install ripgrep (https://github.com/BurntSushi/ripgrep; apt-get install ripgrep)."
_PEER_BYTES = 100_000  # peers' methods are so slow that this much tells
_LOAD = (
    "import time; from triage import match; at = time.perf_counter(); match.load_pack(); "
    "print(time.perf_counter() - at)"
)
_LETTERS = re.compile(r"(?<![\\<A-Za-z])[A-Za-z]{4,}")  # of a pattern: words, not escapes or names of groups


@dataclass(frozen=True)
class Bench:
    """What every row needs."""

    folder: Path  # for the logs
    pack: Pack
    maker: Maker
    megabytes: float

    @property
    def in_earnest(self) -> bool:
        return self.megabytes >= EARNEST

    @property
    def rounds(self) -> int:
        return ROUNDS if self.in_earnest else 1

    def some(self, every: Sequence[T]) -> Sequence[T]:
        """Return the rules or words to measure."""
        return every if self.in_earnest else every[::50]


def main(megabytes: float) -> None:
    tried = "" if megabytes >= EARNEST else " (only tried: the figures mean nothing)"
    report.head(f"Speed on logs of {megabytes:g} MB{tried}, best of {ROUNDS} rounds in turn")
    pack = match.load_pack()
    with tempfile.TemporaryDirectory(prefix="triage-speed-") as folder:
        bench = Bench(Path(folder), pack, logs.maker(pack), megabytes)
        for measure in (_near_misses, _quiet, _against_peers, _start, _growth, _jobs, _hostile):
            measure(bench)


# Rows 1 and 2: grep.


def _near_misses(bench: Bench) -> None:
    what = f"near-miss every {logs.NEAR_MISS_EVERY} lines ({len(bench.maker.near)} different), against rg"
    _against_grep(bench, what, wanted=1, quiet=False)


def _quiet(bench: Bench) -> None:
    _against_grep(bench, "quiet log, against rg", wanted=0.5, quiet=True)


def _against_grep(bench: Bench, what: str, *, wanted: float, quiet: bool) -> None:
    if not report.has("rg"):
        return report.left_out(what, _RG)
    log = bench.maker.write(bench.folder / "one.log", bench.megabytes, quiet=quiet)
    words = bench.folder / "words"
    words.write_text("\n".join(bench.some(bench.maker.words)) + "\n", encoding="utf-8")
    grep: list[str | Path] = ["rg", "-j1", "-c", "-i", "-F", "-f", words, log]
    lines = int(report.output(grep) or 0)  # and has the system keep the log in memory for all rounds
    _require_planted(log)
    mine, rg = report.best(bench.rounds, lambda: report.output(_scan(log)), lambda: report.output(grep))
    log.unlink()
    figure = f"{mine:.2f} s ({_rate(bench.megabytes, mine)}); rg {rg:.2f} s, {lines} hits"
    return tell(Row(what, figure, f"{mine / rg:.3f}", f"≤ {wanted}", mine / rg <= wanted))


def _scan(*paths: Path, jobs: int = 0) -> list[str | Path]:
    return [*report.TRIAGE, "scan", "--format", "json", *(["--jobs", str(jobs)] if jobs else []), *paths]


def _require_planted(*files: Path) -> None:
    """Stop when not exactly the planted message is found: who misses it may be as quick as they like."""
    found = report.output(_scan(*files)).splitlines()
    if len(found) != len(files) or not all(logs.PLANTED_RULE in line for line in found):
        raise RuntimeError(f"Only {logs.PLANTED_RULE} should be found, once in each of {files}: {found}")


def _rate(megabytes: float, seconds: float) -> str:
    return f"{megabytes / seconds:.3g} MB/s"


# Row 3: how peers search, from docs/matching.md, given the rules' patterns alone.


def _against_peers(bench: Bench) -> None:
    text = b"".join(bench.maker.parts(int(min(32, bench.megabytes) * logs.MEGABYTE)))
    own = min(_search_seconds(bench.pack, text) for _ in range(ROUNDS)) / len(text)
    extract = text[: text.find(b"\n", _PEER_BYTES) + 1].decode()
    for what, search in _peers(bench.some(bench.pack.rules), bench.some(bench.maker.words)):
        each = report.seconds(partial(search, extract)) / len(extract.encode())
        figure = f"{1 / each / logs.MEGABYTE:.3g} MB/s; triage {1 / own / logs.MEGABYTE:.3g} MB/s"
        tell(Row(f"against {what}", figure, f"{each / own:.0f} ×", "≥ 50 ×", each / own >= 50))


def _peers(rules: Sequence[Rule], words: Sequence[str]) -> Iterator[tuple[str, Callable[[str], object]]]:
    standard = [found for rule in rules if (found := _standard(rule.pattern)) is not None]
    other = [regex.compile(rule.pattern, regex.IGNORECASE | regex.ASCII) for rule in rules]
    every = re.compile("|".join(each.pattern for each in standard), re.IGNORECASE | re.ASCII)
    yield "each rule on each line, re", partial(_on_lines, standard)
    yield "each rule on each line, regex", partial(_on_lines, other)
    yield "each rule over the whole text, re", partial(_on_text, standard)
    yield "each rule over the whole text, regex", partial(_on_text, other)
    yield "one alternation of all rules on each line, re", partial(_on_lines, [every])
    yield "one test for each word and line, in", partial(_words_in_lines, words)
    yield "one search for each word in the text, find", partial(_words_in_text, words)


def _standard(pattern: str) -> re.Pattern[str] | None:
    """Return a pattern for the standard library, None for one that it cannot: the peers search for less.

    It allows a group's name only once, and no look-behind of several lengths.
    """
    try:
        return re.compile(re.sub(r"(?<!\\)\(\?P?<\w+>", "(?:", pattern), re.IGNORECASE | re.ASCII)
    except re.error:
        return None


def _on_lines(patterns: Sequence[regex.Pattern[str] | re.Pattern[str]], text: str) -> int:
    return sum(1 for line in text.split("\n") for pattern in patterns if pattern.search(line))


def _on_text(patterns: Sequence[regex.Pattern[str] | re.Pattern[str]], text: str) -> int:
    return sum(1 for pattern in patterns for _ in pattern.finditer(text))


def _words_in_lines(words: Sequence[str], text: str) -> int:
    return sum(1 for line in text.lower().split("\n") for word in words if word in line)


def _words_in_text(words: Sequence[str], text: str) -> int:
    low = text.lower()
    return sum(1 for word in words if low.find(word) >= 0)


def _chunks(text: bytes) -> Iterator[bytes]:
    return (text[at : at + CHUNK] for at in range(0, len(text), CHUNK))


# Row 4: starting.


def _start(bench: Bench) -> None:
    log = bench.maker.write(bench.folder / "small.log", 0.01)
    cache = bench.folder / "cache"
    anew = _to_first_finding(log, cache)
    kept = min(_to_first_finding(log, cache) for _ in range(2 * bench.rounds))
    load = min(float(report.output([sys.executable, "-c", _LOAD])) for _ in range(2 * bench.rounds))
    tell(Row("start to the first finding, the pack kept", f"{kept:.3f} s", "", "< 0.5 s", kept < 0.5))
    tell(Row("  of which loading the pack", f"{load:.3f} s", "", "< 0.1 s", load < 0.1))
    tell(Row("  the first start after a change of the pack", f"{anew:.2f} s", f"{anew / kept:.0f} ×"))


def _to_first_finding(log: Path, cache: Path) -> float:
    """Start as a user does and wait for the first line."""
    started = time.perf_counter()
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    with subprocess.Popen(_scan(log), cwd=ROOT, env=environment, stdout=subprocess.PIPE) as scan:
        assert scan.stdout
        assert logs.PLANTED_RULE.encode() in scan.stdout.readline()
        return time.perf_counter() - started


# Row 5: more rules.


def _growth(bench: Bench) -> None:
    part = 1 if bench.in_earnest else 10
    few, many = _grown(FEW_RULES // part), _grown(MANY_RULES // part)
    for quiet in (False, True):
        text = b"".join(bench.maker.parts(int(bench.megabytes / 10 * logs.MEGABYTE), quiet=quiet))
        searches = [partial(_search_seconds, pack, text) for pack in (few, many)]
        for search in searches:
            search()  # compiles what near-misses ask for
        short, long = report.best(bench.rounds, *searches)
        what = (
            f"from {len(few.rules)} to {len(many.rules)} rules, {'quiet' if quiet else 'near-misses of all'}"
        )
        figure = f"{len(text) / short / logs.MEGABYTE:.0f} → {len(text) / long / logs.MEGABYTE:.0f} MB/s"
        tell(Row(what, figure, f"{long / short:.2f} ×", "< 2 ×", long / short < 2))


def _search_seconds(pack: Pack, text: bytes) -> float:
    return report.seconds(lambda: match.search(pack, _chunks(text)))


def _grown(count: int) -> Pack:
    """Return a pack of so many rules from all over the shipped one, with copies where these are too few."""
    rules = logs.shipped()
    copies = [_for_another_tool(rule) for rule in rules[: max(0, count - len(rules))]]
    chosen = [rules[at * len(rules) // count] for at in range(count)] if count < len(rules) else rules
    return match.build([*chosen, *copies])


def _for_another_tool(rule: Rule) -> Rule:
    """Return a rule whose words are read backwards, but for those that most refusals hold."""

    def turned(found: re.Match[str]) -> str:
        return found[0] if logs.held(found[0], _REFUSALS) else found[0][::-1]

    return rule.model_copy(update={"id": f"{rule.id}-too", "pattern": _LETTERS.sub(turned, rule.pattern)})


_REFUSALS = tuple(word.decode() for word in packs._COMMON)


# Row 6: several processes.


def _jobs(bench: Bench) -> None:
    size = max(bench.megabytes / JOBS, LARGE) if bench.in_earnest else bench.megabytes / JOBS
    what = f"{JOBS} files of {size:g} MB, --jobs {JOBS} against one process"
    if "--jobs" not in report.output([*report.TRIAGE, "scan", "--help"]):
        return report.left_out(what, "The scan of this triage has no --jobs.")
    files = [bench.maker.write(bench.folder / f"{at}.log", size) for at in range(JOBS)]
    _require_planted(*files)
    runs = [partial(report.output, _scan(*files, jobs=jobs)) for jobs in (1, JOBS)]
    one, four = report.best(bench.rounds, *runs)
    alone, together = (min(_processor_seconds(run) for _ in range(bench.rounds)) for run in runs)
    for file in files:
        file.unlink()
    tell(Row(what, f"{one:.2f} → {four:.2f} s", f"{one / four:.2f} ×", "≥ 3 ×", one / four >= 3))
    # Had every process a core of its own, the time would be its share of this; a busy machine adds to it.
    what = "  the same in seconds of the processor, shared by the processes"
    share = together / JOBS
    return tell(Row(what, f"{alone:.2f} → {JOBS} x {share:.2f} s", f"{alone / share:.2f} ×"))


def _processor_seconds(run: Callable[[], object]) -> float:
    """Return how long all processes that some work starts keep processors busy."""
    before = os.times()
    run()
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


# Row 7: lines made to keep one rule busy.


def _hostile(bench: Bench) -> None:
    tried = hostile.tried(bench.pack, bench.some(logs.shipped()))
    tried.sort(key=lambda each: each.seconds)
    worst, rare, usual = (tried[(len(tried) - 1) * share // 100] for share in (100, 99, 50))
    what = f"worst of {len(tried)} hostile lines of 8 kB"
    tell(Row(what, _milliseconds(worst), "", "< 250 ms", worst.seconds < 0.25))
    tell(Row("  99th percentile", _milliseconds(rare)))
    tell(Row("  median", _milliseconds(usual)))


def _milliseconds(tried: Tried) -> str:
    return f"{tried.seconds * 1000:.1f} ms, {tried.about}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--mb", type=float, default=1000, help="size of the large logs [default: 1000]")
    main(parser.parse_args().mb)
