"""Forks of a process that has everything loaded: who is to be killed, and what outlives them all."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from multiprocessing.connection import Connection

_PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """A forked process and what it has said so far."""

    pid: int
    ear: Connection
    said: list[Any] = field(default_factory=list)
    status: int | None = None  # as of waitpid, once it has ended

    @property
    def was_killed(self) -> bool:
        return self.status is not None and os.WIFSIGNALED(self.status)

    def stopped(self) -> bool:
        """Wait until it stops itself (True) or ends (False)."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self.status = status
        self._listen()
        return False

    def end(self, *, kill_after: float | None = None) -> Child:
        """Wait until it has ended, having killed it after so many seconds. Raises what went wrong in it."""
        if kill_after is not None and not self.ear.poll(0):
            until = time.monotonic() + kill_after
            while time.monotonic() < until and not _is_over(self.pid):
                time.sleep(0.001)
            self.signal(signal.SIGKILL)
        self._listen()
        if self.status is None:
            _, self.status = os.waitpid(self.pid, 0)
        return self

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def _listen(self) -> None:
        while True:
            try:
                heard = self.ear.recv()
            except (EOFError, ConnectionResetError):
                break
            if isinstance(heard, _Failure):
                raise AssertionError(heard.text)  # noqa: TRY004
            self.said.append(heard)
        self.ear.close()


@dataclass(frozen=True)
class _Failure:
    text: str


def fork(work: Callable[..., object], *arguments: Any) -> Child:
    """Start `work(say, *arguments)` in a fork; `say` tells the parent at once, the result is said last."""
    ear, mouth = multiprocessing.Pipe(duplex=False)
    pid = os.fork()
    if pid:
        mouth.close()
        return Child(pid, ear)
    code = 1
    try:
        ear.close()
        gc.disable()
        die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        mouth.send(work(mouth.send, *arguments))
        code = 0
    except BaseException:  # noqa: BLE001 - told to the parent
        with contextlib.suppress(OSError):
            mouth.send(_Failure(traceback.format_exc()))
    finally:
        os._exit(code)


class Beside:
    """Something served in a process of its own; `ask` has a function called with it over there.

    `serve` yields its address and what calls such a function.
    """

    def __init__(self, serve: Callable[[], AbstractContextManager[tuple[str, Callable[..., Any]]]]) -> None:
        self._line, there = multiprocessing.Pipe()
        self.pid = os.fork()
        if not self.pid:
            self._line.close()
            die_with_parent()
            try:
                answer(there, serve)
            finally:
                os._exit(0)
        there.close()
        self.address = str(self._line.recv())

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return ask(self._line, function, *arguments)

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._line.close()


def ask(line: Connection, function: Callable[..., Any], *arguments: Any) -> Any:
    """Have a function called by who answers at the other end. Raises what it raised."""
    line.send((function, arguments))
    said = line.recv()
    if isinstance(said, Exception):
        raise said
    return said


def answer(
    line: Connection, serve: Callable[[], AbstractContextManager[tuple[str, Callable[..., Any]]]]
) -> None:
    """Serve something, say its address, then call what is asked for until nobody asks any more."""
    logging.disable()  # who asked may be killed before the answer
    with serve() as (address, call):
        line.send(address)
        while True:
            try:
                function, arguments = line.recv()
            except EOFError:
                return
            try:
                said = call(function, *arguments)
            except Exception as error:  # noqa: BLE001 - raised over there
                said = error
            line.send(said)


def until_told(do: Callable[[], object] = bool) -> None:
    """Do something again and again until this process gets a SIGTERM."""
    over = False

    def stop(*_: object) -> None:
        nonlocal over
        over = True

    # Nothing that waits for ever: where another thread takes the signal, Python does not wake the main one.
    signal.signal(signal.SIGTERM, stop)
    while not over:
        do()
        time.sleep(0.02)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, so that nothing is left behind (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _is_over(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123 - hot
        return file.read().rpartition(")")[2].split()[0] == "Z"
