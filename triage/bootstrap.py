"""Set triage up in a fresh checkout: a virtual environment with exactly the locked packages.

Runs before anything is installed, so it needs nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARKER = "TRIAGE_BOOTSTRAPPED"


def ensure(module: str, lock: str, arguments: list[str]) -> None:
    """Return when the locked packages are at hand; otherwise install them and run `module` there.

    An installed triage, or a checkout in an environment of your own, has its packages already.
    """
    if os.environ.pop(MARKER, None) or (
        find_spec("sqlmodel") and find_spec("azure.devops") and lock == _RUNTIME
    ):
        return
    lock_file = ROOT / lock
    if not lock_file.exists():
        sys.exit(f"{lock_file} is missing; install triage with `pip install .` in its checkout.")
    python = _environment(lock_file)
    os.environ[MARKER] = "1"
    sys.stdout.flush()
    os.execv(python, [str(python), "-m", module, *arguments])  # noqa: S606 - our own interpreter


_RUNTIME = "requirements.txt"


def _environment(lock_file: Path) -> Path:
    """Return the interpreter of .venv, made or brought up to date first."""
    import subprocess  # these take long, and most starts do without
    import venv

    home = ROOT / ".venv"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = home / "triage-lock"
    # The development lock holds the runtime lock's packages too: it satisfies both.
    wanted = {_digest(lock_file), _digest(ROOT / "requirements-dev.txt")}
    if python.exists() and stamp.exists() and stamp.read_text() in wanted:
        return python
    print("Setting triage up in .venv (once; takes under a minute) …", file=sys.stderr, flush=True)  # noqa: T201
    if not python.exists():
        try:
            venv.create(home, with_pip=True)
        except subprocess.CalledProcessError:
            sys.exit(
                "Python's venv module is incomplete here. On Debian or Ubuntu: apt-get install python3-venv"
            )
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    done = subprocess.run([*map(str, install), "-r", str(lock_file)], check=False)  # noqa: S603
    if done.returncode:
        sys.exit("The locked packages could not be installed; see pip's message above.")
    stamp.write_text(_digest(lock_file))
    return python


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
