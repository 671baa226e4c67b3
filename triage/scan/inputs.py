"""What there is to read: files, folders, archives of a run's logs, standard input."""

from __future__ import annotations

import codecs
import gzip
import lzma
import os
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from triage.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

STDIN = "-"
_CHUNK = 1024 * 1024
_UNPACKED_MAX = 4 * 1024**3  # bytes read of one packed log: a small file can unpack to anything
_MEMBERS_MAX = 10_000  # of one archive
_ENCRYPTED = 1  # the flag of an archive's member
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF32_LE = codecs.BOM_UTF32_LE
# What reading raises when an input is damaged or packed in a way that nobody here can unpack.
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, NotImplementedError)


@dataclass(frozen=True)
class Source:
    """One log: a file, or a member of an archive."""

    path: str
    member: str = ""

    @property
    def shown(self) -> str:
        """The name without undecodable bytes or characters that steer a terminal."""
        name = f"{self.path}!/{self.member}" if self.member else self.path
        text = os.fsencode(name).decode("utf-8", "replace")
        return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def sources(paths: list[str], refused: Callable[[str], None]) -> Iterator[Source]:
    """Yield the logs of files, folders and archives; `refused` hears what cannot be read, in a sentence.

    Folders are walked in the order of names, hidden ones left out; so are pipes and devices in them, for
    reading those may never end.
    """
    for path in paths:
        for file in [path] if path == STDIN or not Path(path).is_dir() else _files(path, refused):
            try:
                yield from _logs(file)
            except (OSError, *_DAMAGED) as error:
                refused(unreadable(Source(file), error))


def _files(folder: str, refused: Callable[[str], None]) -> Iterator[str]:
    def told(error: OSError) -> None:
        refused(unreadable(Source(str(error.filename)), error))

    for inside, names, files in os.walk(folder, onerror=told):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            file = Path(inside) / name
            if not name.startswith(".") and (file.is_file() or not file.exists()):
                yield str(file)


def _logs(path: str) -> Iterator[Source]:
    plain = path != STDIN and Path(path).is_file()  # what else there is can be read only once
    if not plain or _first(path) != _ZIP or not zipfile.is_zipfile(path):
        yield Source(path)
        return
    with zipfile.ZipFile(path) as archive:
        members = [each for each in archive.infolist() if not each.is_dir()]
    if len(members) > _MEMBERS_MAX:
        raise zipfile.BadZipFile(f"more than {_MEMBERS_MAX} files are in it; unpack it and scan the folder")
    for member in sorted(members, key=lambda each: each.filename):
        yield Source(path, member.filename)


def _first(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(len(_ZIP))


def recount(source: Source) -> Callable[[int, int], int] | None:
    """Return what counts the line ends between two offsets of a plain file; None for any other input."""
    path = Path(source.path)
    if source.member or source.path == STDIN or not path.is_file():
        return None
    if _first(source.path).startswith((_GZIP, *_UTF16)):
        return None

    def count(start: int, stop: int) -> int:
        ends = 0
        with path.open("rb") as file:
            file.seek(start)
            while start < stop and (chunk := file.read(min(_CHUNK, stop - start))):
                ends += chunk.count(b"\n")
                start += len(chunk)
        return ends

    return count


@contextmanager
def opened(source: Source, stdin: BinaryIO, cut: list[str]) -> Iterator[Iterator[bytes]]:
    """Yield a log's chunks, unpacked and as UTF-8; `cut` hears what is not read of it.

    Raises UnreadableError, whose text names the input and the next step.
    """
    try:
        with _stream(source, stdin) as stream:
            yield _decoded(_chunks(source, stream, cut))
    except (OSError, *_DAMAGED) as error:
        raise UnreadableError(unreadable(source, error)) from None


@contextmanager
def _stream(source: Source, stdin: BinaryIO) -> Iterator[IO[bytes]]:
    if source.member:
        with zipfile.ZipFile(source.path) as archive:
            if archive.getinfo(source.member).flag_bits & _ENCRYPTED:
                raise zipfile.BadZipFile("it is encrypted; unpack it with its password and scan the folder")
            with archive.open(source.member) as member:
                yield member
        return
    if source.path == STDIN:
        yield stdin  # which nobody here may close
        return
    with Path(source.path).open("rb") as file:
        yield file


def _chunks(source: Source, stream: IO[bytes], cut: list[str]) -> Iterator[bytes]:
    """Yield the chunks of a stream, unpacked where its first bytes say that it is packed."""
    first = _filled(stream)
    if source.path == STDIN and first.startswith(_ZIP):
        raise zipfile.BadZipFile("an archive cannot be read from a pipe; give its path")
    packed = bool(source.member)
    if first.startswith(_GZIP):
        joined = cast("IO[bytes]", _Joined(first, stream))
        stream, first, packed = cast("IO[bytes]", gzip.GzipFile(fileobj=joined, mode="rb")), b"", True
    left = _UNPACKED_MAX if packed else None
    chunk = first or stream.read(_CHUNK)
    while chunk:
        if left is not None and len(chunk) > left:
            yield chunk[:left]
            cut.append(f"Only the first {_UNPACKED_MAX // 1024**3} GiB that it unpacks to were read.")
            return
        left = None if left is None else left - len(chunk)
        yield chunk
        try:
            chunk = stream.read(_CHUNK)
        except _DAMAGED:
            cut.append("The packed log is damaged or ends too early; what stands before was read.")
            return


def _filled(stream: IO[bytes]) -> bytes:
    """Return the first bytes; a pipe may give them one by one."""
    first = stream.read(_CHUNK)
    while first and len(first) < len(_ZIP) and (more := stream.read(_CHUNK)):
        first += more
    return first


class _Joined:
    """A stream whose first bytes have been read already."""

    def __init__(self, first: bytes, stream: IO[bytes]) -> None:
        self._first = first
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not self._first:
            return self._stream.read(size)
        size = len(self._first) if size < 0 else size
        given, self._first = self._first[:size], self._first[size:]
        return given


def _decoded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield a log in UTF-16 as UTF-8, and any other as it is."""
    decoder: codecs.IncrementalDecoder | None = None
    for number, chunk in enumerate(chunks):
        if number == 0 and chunk.startswith(_UTF16) and not chunk.startswith(_UTF32_LE):
            decoder = codecs.getincrementaldecoder("utf-16")("replace")
        yield decoder.decode(chunk).encode("utf-8", "replace") if decoder else chunk


_NEXT_STEP = {
    FileNotFoundError: "check the path",
    PermissionError: "run triage as a user who may read it",
    IsADirectoryError: "give a file, a folder or - for standard input",
}


def unreadable(source: Source, error: Exception) -> str:
    """Return why an input cannot be read and what to do, in a sentence."""
    if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
        reason = error.strerror or str(error)
        step = _NEXT_STEP.get(type(error), "give a file, a folder or - for standard input")
    elif ";" in str(error):
        reason, step = str(error).split("; ", 1)
    else:
        reason = f"it is damaged or packed in an unknown way ({str(error) or 'it ends too early'})"
        step = "download it again, or unpack it and scan the folder"
    return f"{source.shown} cannot be read: {reason}; {step}."
