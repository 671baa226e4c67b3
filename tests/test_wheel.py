"""The wheel carries everything that triage needs at run time."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_carries_rules_templates_migrations_and_scenarios(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = [path for kind in ("*.toml", "*.json") for path in (ROOT / "rules").rglob(kind)]
    rules = {f"triage/rules/{path.relative_to(ROOT / 'rules')}" for path in shipped}
    data = {
        str(path.relative_to(ROOT))
        for pattern in ("*.html", "*.css", "*.toml", "*.json", "versions/*.py", "*.mako")
        for path in (ROOT / "triage").rglob(pattern)
    }
    assert rules <= names
    assert data <= names
    assert not [name for name in names if name.startswith("tests/")]
