"""Make the logs that the benchmarks read: of any size, in the style of Azure Pipelines, always the same.

Ordinary lines hold no word that a rule requires, but as many of the words that the sieve looks for as logs of
healthy runs do (addresses, users, keys). Near-misses hold a word that some rule requires and are no finding:
counter-examples of the rules, and the rules' words within ordinary sentences.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from random import Random
from typing import TYPE_CHECKING

from triage import match
from triage.match import load, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from triage.match import Pack, Rule

MEGABYTE = 1_000_000
PLANTED_RULE = "acr-invalid-client"
PLANTED = b"##[error]unauthorized: Invalid clientid or client secret."
NEAR_MISS_EVERY = 50  # lines
_SEED = 7
_BLOCK = 16 * MEGABYTE  # of different lines; a longer log repeats them
_SENTENCES = 600  # near-misses made of the rules' words, at most; counter-examples come on top
_LINE_MAX = 120  # bytes of a line, on average, at most
_TAIL = 20  # ordinary lines after the planted message
_BEGAN = datetime(2026, 11, 21, 3, 12, tzinfo=UTC)

# What tools print when all is well. {n}: a number, {h}: a digest, {v}: a version, {w}: a word.
_ORDINARY = (
    "  Restored /home/vsts/work/1/s/src/Shop.{w}/Shop.{w}.csproj (in {n} ms).",
    "  Shop.{w} -> /home/vsts/work/1/s/src/Shop.{w}/bin/Release/net8.0/Shop.{w}.dll",
    "  CC      drivers/{w}/{w}_{n}.o",
    "  AR      drivers/{w}/built-in.a",
    "[{n}/4096] Building CXX object src/{w}/CMakeFiles/{w}.dir/{w}_{n}.cpp.o",
    "remote: Counting objects:  {n}% ({n}/38124)",
    "Receiving objects:  {n}% ({n}/38124), {n}.18 MiB | 21.40 MiB/s",
    "Resolving deltas: 100% ({n}/{n}), done.",
    "#12 {n}.482 Selecting previously unselected package lib{w}-dev:amd64.",
    "#12 {n}.901 Unpacking lib{w}-dev:amd64 ({v}-1ubuntu{n}) ...",
    "#12 {n}.117 Setting up lib{w}{n}:amd64 ({v}-1ubuntu1.{n}) ...",
    "#15 exporting manifest list sha256:{h}{h} done",
    "{h}: Pulling fs layer",
    "{h}: Pull complete",
    " {n}K .......... .......... .......... .......... .......... {n}%  204M {n}s",
    "Collecting {w}-{w}=={v}",
    "  Downloading {w}_{w}-{v}-py3-none-any.whl ({n} kB)",
    "[INFO] --- maven-compiler-plugin:{v}:compile (default-compile) @ shop-{w} ---",
    "[INFO] Compiling {n} source files to /home/vsts/work/1/s/{w}/target/classes",
    "[INFO] Building jar: /home/vsts/work/1/s/{w}/target/shop-{w}-{v}.jar",
    "  adding: drop/{w}/{w}.{h}.js (deflated {n}%)",
    "dist/assets/{w}-{h}.js   {n}.41 kB │ gzip: {n}.02 kB",
    "Copying /home/vsts/work/1/s/out/{w}/{w}.dll to /home/vsts/work/1/a/{w}/{w}.dll",
    "##[section]Starting: Publish {w} {n}",
    "##[section]Finishing: Publish {w} {n}",
    "   ✓ {w} renders {w} in {n} ms",
    "Uploaded {n} of 4,096 files ({n} MB/s)",
    "added {n} packages in {n}s",
    "",
)
# The same, with words that messages of refusal hold too.
_TEMPTING = (
    "[INFO] Downloading from central: https://repo.maven.apache.org/maven2/org/{w}/{w}/{v}/{w}-{v}.pom",
    "Downloading from feed: https://pkgs.example.net/{w}/{w}-{v}.tgz ({n} kB)",
    "Get:{n} http://azure.archive.ubuntu.com/ubuntu noble/main amd64 lib{w} amd64 {v} [{n} kB]",
    "Cache key: {w} | Linux | {h}",
    "  /Users/runner/work/1/s/{w}/{w}.swift:{n}: note: used here",
)
_TEMPTING_EVERY = 8  # lines; 15 % of the lines of real logs of healthy runs hold such a word
_WORDS = (
    "basket", "catalogue", "checkout", "delivery", "invoice", "ledger", "search", "stock", "warehouse",
    "pricing", "voucher", "carrier", "parcel", "shelf", "label", "colour", "fabric", "season", "rental",
    "harbour", "lantern", "meadow", "orchard", "pebble",
)  # fmt: skip
# Ordinary sentences around a word that some rule requires.
_AROUND = (
    "Reading {}, line {n} of {n}",
    "{w}: nothing to do for {} ({n} ms)",
    "[INFO] {} was looked up {n} times by {w}",
    "  - docs/{w}.md mentions {} in chapter {n}",
    "##[debug]{}={w}{n}",
)


@dataclass(frozen=True)
class Maker:
    """Makes logs for one pack of rules."""

    words: tuple[str, ...]  # that the rules require
    near: tuple[str, ...]  # near-misses; none is a finding

    def write(self, path: Path, megabytes: float, *, quiet: bool = False) -> Path:
        """Write a log with the planted message near its end."""
        with path.open("wb") as file:
            for part in self.parts(int(megabytes * MEGABYTE), quiet=quiet):
                file.write(part)
        return path

    def parts(self, size: int, *, quiet: bool = False) -> Iterator[bytes]:
        """Yield the text of a log of a size in large parts; near its end is the planted message."""
        yield from self.beginning(size, quiet=quiet)
        yield stamped([PLANTED.decode(), *islice(self._ordinary(Random(_SEED)), _TAIL)])

    def beginning(self, size: int, *, quiet: bool = False) -> Iterator[bytes]:
        """Yield the text of a log without a finding in large parts."""
        yield from repeated(self._block(min(size, _BLOCK), quiet=quiet), size)

    def _block(self, size: int, *, quiet: bool) -> bytes:
        """Return lines of a size; every line of a near-miss is another one until all have had their turn."""
        chance = Random(_SEED)
        ordinary = self._ordinary(chance)
        lines: list[str] = []
        left = size
        while left > 0:
            is_near = not quiet and len(lines) % NEAR_MISS_EVERY == NEAR_MISS_EVERY - 1
            lines.append(
                self.near[len(lines) // NEAR_MISS_EVERY % len(self.near)] if is_near else next(ordinary)
            )
            left -= len(lines[-1].encode()) + len(_stamp(0)) + 1
        return stamped(lines)

    def _ordinary(self, chance: Random) -> Iterator[str]:
        plain, tempting = (self._without_words(each) for each in (_ORDINARY, _TEMPTING))
        while True:
            kinds = tempting if chance.randrange(_TEMPTING_EVERY) == 0 else plain
            yield _filled(chance.choice(kinds), chance)

    def _without_words(self, kinds: Iterable[str]) -> list[str]:
        return [kind for kind in kinds if not held(kind, self.words)]


def maker(found: Pack) -> Maker:
    """Return what makes logs for the shipped pack."""
    rules = shipped()
    words = tuple(pack._words(pack._parsed(rules)))
    chance = Random(_SEED)
    phrases = [
        line.strip() for rule in rules for each in rule.counter_examples for line in each.log.split("\n")
    ]
    phrases = [phrase for phrase in phrases if held(phrase, words)]
    sentences = [_filled(chance.choice(_AROUND).replace("{}", word), chance) for word in words]
    near = [*_no_findings(found, phrases), *islice(_no_findings(found, _spread(sentences)), _SENTENCES)]
    return _apart(found, Maker(words, tuple(dict.fromkeys(near))))


def _apart(found: Pack, made: Maker) -> Maker:
    """Leave out near-misses that are findings because of those around them."""
    once = len(made.near) * NEAR_MISS_EVERY * _LINE_MAX
    matches = match.search(found, made.parts(once), whole=True).matches
    wrong = {each.line // NEAR_MISS_EVERY - 1 for each in matches if each.rule != PLANTED_RULE}
    if not wrong:
        return made
    cycle = len(made.near)
    kept = [line for at, line in enumerate(made.near) if at not in {each % cycle for each in wrong}]
    return _apart(found, Maker(made.words, tuple(kept)))


@cache
def shipped() -> list[Rule]:
    """Return the shipped rules with their examples, which a kept pack does not hold."""
    rules, problems = load.read(match.shipped_rules())
    assert not problems
    return [rule for _, rule in rules]


def held(line: str, words: Sequence[str]) -> str | None:
    """Return the first of the words that a line holds."""
    low = line.lower()
    return next((word for word in words if word in low), None)


def repeated(block: bytes, size: int) -> Iterator[bytes]:
    """Yield a block until a size is reached; the last one ends with a line's end if the block does."""
    for _ in range(size // len(block)):
        yield block
    rest = size % len(block)
    if rest:
        yield block[: block.rfind(b"\n", 0, rest) + 1 or rest]


def stamped(lines: Sequence[str]) -> bytes:
    """Return lines as the agent writes them, each with its time."""
    return b"".join(_stamp(number) + line.encode() + b"\n" for number, line in enumerate(lines))


def _stamp(number: int) -> bytes:
    now = _BEGAN + timedelta(milliseconds=3 * number)
    return f"{now:%Y-%m-%dT%H:%M:%S.%f}7Z ".encode()


def _filled(kind: str, chance: Random) -> str:
    """Return a line of a kind; what is not one of the four places stays as it is."""
    for place, make in _PLACES.items():
        while place in kind:
            kind = kind.replace(place, make(chance), 1)
    return kind


_PLACES: dict[str, Callable[[Random], str]] = {
    "{n}": lambda chance: str(chance.randrange(2, 400)),
    "{h}": lambda chance: f"{chance.getrandbits(48):012x}",
    "{v}": lambda chance: f"{chance.randrange(9)}.{chance.randrange(30)}.{chance.randrange(10)}",
    "{w}": lambda chance: chance.choice(_WORDS),
}


def _spread(lines: Sequence[str]) -> Iterator[str]:
    """Yield all lines, those far apart first, so that a few of them come from the whole pack."""
    chance = Random(_SEED)
    yield from chance.sample(lines, len(lines))


def _no_findings(found: Pack, lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines that match no rule and do not hide what comes after them either."""
    for line in lines:
        raw = line.encode() + b"\n"
        if match.search(found, [raw], whole=True).matches:
            continue
        after = match.search(found, [raw + PLANTED + b"\n"]).matches
        if [each.rule for each in after] == [PLANTED_RULE]:
            yield line
