"""What README, deploy/README.md and --help say is true."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import click
import pytest

from triage import config
from triage.cli import cli

ROOT = Path(__file__).parent.parent
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


def test_the_lock_names_no_download_address() -> None:
    for lock in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / lock).read_text(encoding="utf-8")
        assert "://" not in text
        assert "--index-url" not in text
