"""Hosts of a test's own: network namespaces on a bridge that nothing outside of them reaches (Linux, as root).

Made by `ip`, and taken away by who made them, or by the next one when that was killed. What runs there is
started by `python -m tests.namespaces COMMAND`.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.promises.forked import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICES = "services"  # the host that the others reach
_PREFIX = "triage-test-"
_NETWORK = "192.0.2"  # kept for examples (RFC 5737): nobody's
_ROOT = Path(__file__).parents[1]
_RUNNING = Path("/run/netns")
_CLONE_NEWNET = 0x40000000


def missing() -> str:
    """Return what is missing to make namespaces, "" when nothing is."""
    if sys.platform != "linux":
        return "network namespaces are a thing of Linux"
    if not shutil.which("ip"):
        return "the program ip is missing (package iproute2)"
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    name = f"{_PREFIX}{os.getpid()}-try"
    done = _ip("netns", "add", name, check=False)
    if done.returncode:
        _ip("netns", "delete", name, check=False)  # half of it may be there
        return f"this machine makes no network namespaces: {done.stderr.strip()}"
    able = _ip("-n", name, "link", "add", "try", "type", "bridge", check=False)
    _ip("netns", "delete", name)
    return f"this machine makes no bridge: {able.stderr.strip()}" if able.returncode else ""


@dataclass
class Network:
    """A bridge in the services' namespace, and hosts that are plugged into it."""

    addresses: dict[str, str] = field(default_factory=dict)  # of each host
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, host: str, *command: str, **more: Any) -> subprocess.Popen[bytes]:
        """Start a process on a host; it does not outlive this one."""
        whole = ["ip", "netns", "exec", _namespace(host), sys.executable, "-S", "-m", "tests.namespaces"]
        process = subprocess.Popen([*whole, *command], cwd=_ROOT, **more)
        self.started.append(process)
        return process

    def end(self) -> None:
        """Kill what was started and has not ended."""
        for process in self.started:
            process.kill()
            process.wait()

    def unplug(self, host: str) -> None:
        """Cut a host off: nothing that is sent reaches it, and nothing it sends reaches anybody."""
        _ip("-n", _namespace(SERVICES), "link", "set", "dev", host, "down")

    def plug_in(self, host: str) -> None:
        """Connect a host that was cut off."""
        _ip("-n", _namespace(SERVICES), "link", "set", "dev", host, "up")

    @contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """Let this thread, and the threads and processes it starts, be on a host."""
        with Path("/proc/thread-self/ns/net").open("rb") as here:
            _enter(_RUNNING / _namespace(host))
            try:
                yield
            finally:
                _set(here.fileno())


@contextmanager
def network(*hosts: str) -> Iterator[Network]:
    """Make hosts that reach each other and nobody else; on leaving, take them away with all that runs there."""
    _clear_dead()
    made = Network()
    try:
        for number, host in enumerate((SERVICES, *hosts), 1):
            made.addresses[host] = f"{_NETWORK}.{number}"
            _ip("netns", "add", _namespace(host))
            _ip("-n", _namespace(host), "link", "set", "lo", "up")
        bridge = ("-n", _namespace(SERVICES))
        _ip(*bridge, "link", "add", "bridge", "type", "bridge", "forward_delay", "0")
        _ip(*bridge, "address", "add", f"{made.addresses[SERVICES]}/24", "dev", "bridge")
        _ip(*bridge, "link", "set", "bridge", "up")
        for host in hosts:
            there = _namespace(host)
            _ip(*bridge, "link", "add", "name", host, "type", "veth", "peer", "name", "eth0", "netns", there)
            _ip(*bridge, "link", "set", "dev", host, "master", "bridge", "up")
            _ip("-n", there, "address", "add", f"{made.addresses[host]}/24", "dev", "eth0")
            _ip("-n", there, "link", "set", "eth0", "up")
        yield made
    finally:
        made.end()
        _remove(os.getpid())


def _namespace(host: str) -> str:
    return f"{_PREFIX}{os.getpid()}-{host}"


def _clear_dead() -> None:
    """Take away what was left behind by processes that were killed."""
    if not _RUNNING.is_dir():
        return
    owners = {each.name.removeprefix(_PREFIX).split("-")[0] for each in _RUNNING.glob(f"{_PREFIX}*")}
    for owner in owners:
        if not Path(f"/proc/{owner}").exists():
            _remove(int(owner))


def _remove(owner: int) -> None:
    for each in _RUNNING.glob(f"{_PREFIX}{owner}-*"):
        _ip("netns", "delete", each.name, check=False)


def _ip(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done


def _enter(namespace: Path) -> None:
    with namespace.open("rb") as file:
        _set(file.fileno())


def _set(number: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns comes with Python 3.12
    if libc.setns(number, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


if __name__ == "__main__":  # what runs here does not outlive who started it
    die_with_parent()
    os.execvp(sys.argv[1], sys.argv[1:])
