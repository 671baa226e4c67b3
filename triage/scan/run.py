"""Search the logs one after the other or side by side, and hand what is found to a report."""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, TextIO

from triage.domain import Verdict
from triage.errors import UnreadableError
from triage.match import engine
from triage.scan import inputs, reports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from triage.match.engine import Search
    from triage.match.pack import Pack
    from triage.scan.inputs import Source

NOTHING, FOUND, UNREADABLE = 0, 1, 3
_SOON, _EVERY = 2.0, 0.2  # seconds before progress is shown, and between two times
_AHEAD = 4  # logs handed to each process before the first of them is told
_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class _Done:
    """What became of one log; a sentence where it could not be read."""

    source: Source
    search: Search | None
    unreadable: str = ""
    size: int = 0


def run(
    paths: Iterable[str],
    *,
    pack: Pack,
    report: reports.Report,
    stdin: BinaryIO,
    stderr: TextIO,
    jobs: int = 1,
    exit_zero: bool = False,
) -> int:
    """Search files, folders, archives and "-" (standard input), and report the findings in their order.

    Returns 3 when an input could not be read (the others are searched all the same), else 1 when
    something other than a look-alike was found, else 0; with `exit_zero` 0 instead of 1.
    """
    progress = _Progress(stderr)
    found = unreadable = False

    def refused(sentence: str) -> None:
        nonlocal unreadable
        unreadable = True
        progress.clear()
        print(f"triage: {sentence}", file=stderr)
        report.unreadable(sentence)

    sources = inputs.sources(list(paths), refused)
    several = jobs > 1
    searched = _parallel(sources, pack, stdin, jobs) if several else _serial(sources, pack, stdin, progress)
    for done in searched:
        if done.search is None:
            refused(done.unreadable)
            continue
        progress.done(done.size if several else 0)
        found = found or any(match.verdict is not Verdict.LOOK_ALIKE for match in done.search.matches)
        if done.search.matches or done.search.cut:
            progress.clear()
        report.log(done.source.shown, done.search)
        for cut in done.search.cut:
            print(f"triage: {done.source.shown}: {cut}", file=stderr)
    progress.clear()
    report.end()
    if unreadable:
        return UNREADABLE
    return FOUND if found and not exit_zero else NOTHING


def _serial(sources: Iterable[Source], pack: Pack, stdin: BinaryIO, progress: _Progress) -> Iterator[_Done]:
    for source in sources:
        yield _searched(source, pack, stdin, progress.read)


def _searched(source: Source, pack: Pack, stdin: BinaryIO, read: Callable[[int], None]) -> _Done:
    cut: list[str] = []
    size = 0

    def counted(chunks: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal size
        for chunk in chunks:
            size += len(chunk)
            read(len(chunk))
            yield chunk

    try:
        with inputs.opened(source, stdin, cut) as chunks:
            search = engine.search(pack, counted(chunks), recount=inputs.recount(source))
    except UnreadableError as error:
        return _Done(source, None, str(error))
    return _Done(source, replace(search, cut=(*search.cut, *cut)), size=size)


# Side by side, in processes: searching a log is work for the processor.


def _parallel(sources: Iterator[Source], pack: Pack, stdin: BinaryIO, jobs: int) -> Iterator[_Done]:
    """Yield what became of the logs, in their order; standard input is read here, by nobody else."""
    import multiprocessing  # these take long, and most scans do without
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    waiting: deque[tuple[Source, Future[_Done] | None]] = deque()

    def first() -> _Done:
        source, future = waiting.popleft()
        return future.result() if future else _searched(source, pack, stdin, _unheard)

    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(pack,)) as pool:
        for source in sources:
            waiting.append((source, None if source.path == inputs.STDIN else pool.submit(_work, source)))
            if len(waiting) > jobs * _AHEAD:
                yield first()
        while waiting:
            yield first()


_packs: list[Pack] = []  # this process's


def _begin(pack: Pack) -> None:
    _packs[:] = [pack]


def _work(source: Source) -> _Done:
    return _searched(source, _packs[0], sys.stdin.buffer, _unheard)


def _unheard(_: int) -> None:
    pass


class _Progress:
    """One line on a terminal's stderr that says how far a long search is."""

    def __init__(self, stderr: TextIO) -> None:
        self._stderr = stderr if stderr.isatty() else None
        self._next = time.monotonic() + _SOON
        self._logs = self._bytes = 0
        self._shown = False

    def read(self, size: int) -> None:
        self._bytes += size
        if self._stderr is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY
        megabytes = self._bytes // _MEGABYTE
        self._stderr.write(f"\r\x1b[2Ktriage: {reports.counted(self._logs)} and {megabytes} MB searched …")
        self._stderr.flush()
        self._shown = True

    def done(self, size: int) -> None:
        self._logs += 1
        self.read(size)

    def clear(self) -> None:
        if self._shown and self._stderr is not None:
            self._stderr.write("\r\x1b[2K")
            self._stderr.flush()
            self._shown = False
