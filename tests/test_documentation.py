"""What README, deploy/README.md and --help say is true."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import click
import pytest
from starlette.routing import Route

from triage import config, db, expiry
from triage.cli import cli
from triage.web import connections, pages, rules

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = re.compile(r"(<!-- settings: .*? -->\n).*?(<!-- /settings -->)", re.DOTALL)


def settings_table() -> str:
    rows = ["| setting | environment variable | default | meaning |", "|---|---|---|---|"]
    for name, field in config.Settings.model_fields.items():
        section: Any = field.annotation
        inner = getattr(section, "model_fields", None)
        for key, each in (inner or {"": field}).items():
            path = f"{name}.{key}" if key else name
            variable = "TRIAGE_" + path.replace(".", "__").upper()
            default = each.get_default(call_default_factory=True)
            if hasattr(each.annotation, "model_fields"):  # its keys are those of another section
                path, variable, default = f"{path}.…", f"{variable}__…", None
            shown = "–" if default is None else f"`{json.dumps(default)}`"
            rows.append(f"| `{path}` | `{variable}` | {shown} | {each.description} |")
    return "\n".join(rows) + "\n"


def test_the_settings_table_lists_every_setting_with_its_default() -> None:
    page = ROOT / "deploy" / "README.md"
    text = page.read_text(encoding="utf-8")
    wanted = SETTINGS.sub(lambda m: m[1] + settings_table() + m[2], text)
    if os.environ.get("TRIAGE_BLESS"):
        page.write_text(wanted, encoding="utf-8")
    assert text == wanted, "run TRIAGE_BLESS=1 python3 -m tests tests/test_documentation.py"


def commands(group: click.Group, prefix: str = "") -> list[str]:
    found = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += commands(command, f"{prefix}{name} ")
        else:
            found.append(prefix + name)
    return found


@pytest.mark.parametrize("command", commands(cli))
def test_the_readme_tells_of_every_command(command: str) -> None:
    assert f"triage {command}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readmes_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "deploy/README.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_tells_of_every_page_and_of_no_other(tmp_path: Path) -> None:
    settings = config.Settings()
    engine = db.open_engine(f"sqlite:///{tmp_path}/triage.db")
    routers = (pages.router(settings, engine), connections.router(settings, engine), rules.router(None))
    paths = [each.path for router in routers for each in router.routes if isinstance(each, Route)]
    served = {_shape(path) for path in paths if not path.startswith("/api/")}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`/.*?) \|", text, re.MULTILINE)
    told = {_shape(path) for row in rows for path in re.findall(r"`([^`]+)`", row)}
    assert told == served


def _shape(path: str) -> str:
    return re.sub(r"\{.*?\}", "{}", path)


def test_the_readme_tells_the_times_of_the_settings() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    *most, last = config.Expiry().warn_days
    assert f"At {', '.join(map(str, most))} and {last} days left (`expiry.warn_days`)" in text
    assert f"within {config.AfterRenewal().reopen_hours:.0f} hours (`after_renewal.reopen_hours`)" in text
    (day,) = re.findall(r"`(expires \d{4}-\d\d-\d\d)`", text)
    assert list(expiry.dates(day)), "what triage reads"


@pytest.mark.parametrize("line", re.findall(r"^    triage (connections .*)$", README, re.MULTILINE))
def test_a_command_of_the_readme_is_one(line: str) -> None:
    words = line.partition("#")[0].split()
    command: Any = cli
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    options = {name: each for each in command.params for name in each.opts}
    given = [word for word in words if word.startswith("--")]
    assert set(given) <= set(options)


def test_the_lock_names_no_download_address() -> None:
    for lock in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / lock).read_text(encoding="utf-8")
        assert "://" not in text
        assert "--index-url" not in text
