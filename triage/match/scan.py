"""`triage scan`: search logs on disk or from standard input, and print what was found."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Literal, TextIO

from rich.console import Console
from rich.markup import escape

from triage.domain import Verdict
from triage.match import engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from triage.domain import Match
    from triage.match.engine import Search
    from triage.match.pack import Pack

NOTHING, FOUND, UNREADABLE = 0, 1, 3
_CHUNK = 1024 * 1024
_COLOUR = {Verdict.EXPIRED: "red", Verdict.REVOKED: "red", Verdict.LOOK_ALIKE: "dim"}


def run(
    paths: Sequence[str],
    *,
    format: Literal["text", "json"],  # noqa: A002 - the flag's name
    pack: Pack,
    stdin: BinaryIO,
    stdout: TextIO,
    stderr: TextIO,
) -> int:
    """Scan files, folders and "-" (standard input), and print the findings in their order.

    Returns 3 when an input could not be read (the others are scanned all the same), else 1 when
    something other than a look-alike was found, else 0.
    """
    out = Console(file=stdout, highlight=False, soft_wrap=True)
    found = unreadable = False
    files = 0

    def refused(error: OSError) -> None:
        nonlocal unreadable
        unreadable = True
        print(f"triage: {_unreadable(_printable(str(error.filename)), error)}", file=stderr)

    for path in _walk(paths, refused):
        shown = _printable(path)
        try:
            with _opened(path, stdin) as log:
                result = engine.search(pack, iter(lambda log=log: log.read(_CHUNK), b""))  # type: ignore[misc]
        except OSError as error:
            error.filename = path
            refused(error)
            continue
        files += 1
        found = found or any(match.verdict is not Verdict.LOOK_ALIKE for match in result.matches)
        _tell(shown, result, format, stdout, out)
        for cut in result.cut:
            print(f"triage: {shown}: {cut}", file=stderr)
    if format == "text" and not found and not unreadable:
        read = "1 log" if files == 1 else f"{files} logs"
        out.print(f"No expired or refused credential in {read}.")
    return UNREADABLE if unreadable else FOUND if found else NOTHING


def _walk(paths: Sequence[str], refused: Callable[[OSError], None]) -> Iterator[str]:
    """Return the files to read; folders are walked in the order of names, hidden ones left out.

    Pipes and devices in a folder are left out too: reading them may never end.
    """
    for path in paths:
        if path == "-" or not Path(path).is_dir():
            yield path
            continue
        for folder, names, files in os.walk(path, onerror=refused):
            names[:] = sorted(name for name in names if not name.startswith("."))
            for name in sorted(files):
                file = Path(folder) / name
                if not name.startswith(".") and (file.is_file() or not file.exists()):
                    yield str(file)


def _opened(path: str, stdin: BinaryIO) -> IO[bytes]:
    return _Kept(stdin) if path == "-" else Path(path).open("rb")  # type: ignore[return-value]


class _Kept:
    """Standard input, which a `with` must not close."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def __enter__(self) -> BinaryIO:
        return self.stream

    def __exit__(self, *_: object) -> None:
        pass


def _printable(path: str) -> str:
    """Return a path without undecodable bytes or characters that steer a terminal."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _unreadable(path: str, error: OSError) -> str:
    reason = error.strerror or str(error)
    next_step = {
        FileNotFoundError: "check the path",
        PermissionError: "run triage as a user who may read it",
    }.get(type(error), "give a file, a folder or - for standard input")
    return f"{path} cannot be read: {reason}; {next_step}."


def _tell(path: str, result: Search, form: str, stdout: TextIO, out: Console) -> None:
    for match in result.matches:
        if form == "json":
            stdout.write(json.dumps(as_json(path, match)) + "\n")
            continue
        colour = _COLOUR.get(match.verdict, "yellow")
        out.print(f"[bold {colour}]{match.verdict}[/] [bold]{escape(match.title)}[/]")
        out.print(f"  {escape(path)}:{match.line}  {match.credential}, {match.confidence}, rule {match.rule}")
        out.print(f"  {escape(match.excerpt)}")
        if match.explanation:
            out.print(f"  [dim]{escape(match.explanation)}[/]")


def as_json(path: str, match: Match) -> dict[str, object]:
    """Return a finding as `--format json` prints it; these names are a contract."""
    return {
        "path": path,
        "line": match.line,
        "rule": match.rule,
        "credential": match.credential,
        "verdict": match.verdict.value,
        "confidence": match.confidence.value,
        "captures": dict(match.captures),
        "excerpt": match.excerpt,
    }
