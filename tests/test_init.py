"""`triage init`: what it asks, what it writes, and that it tests what it wrote."""

from __future__ import annotations

import stat
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tests.sandbox.conftest import TOKEN, organisation, played, shop
from triage.cli import cli

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from triage.sandbox.organisation import Organisation
    from triage.sandbox.server import Played

__all__ = ["organisation", "played", "shop"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, organisation: Organisation) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIAGE_CONFIG")
    organisation.allow_local_hooks = True
    return tmp_path


def init(*arguments: str, answers: str = "") -> Result:
    return CliRunner().invoke(cli, ["init", *arguments], input=answers)


def read(file: Path) -> dict[str, Any]:
    return tomllib.loads(file.read_text())


def test_it_asks_writes_tests_and_installs(folder: Path, played: Played, organisation: Organisation) -> None:
    answers = [
        "dev.azure.com/contoso",  # no address: asked again
        played.url,
        "token",
        TOKEN,
        "2099-01-31",
        "n",  # no second credential
        "http://triage.contoso.example",  # not https: asked again
        "https://127.0.0.1:1",
        "",
        "Platform",
        "y",  # install the hooks
        "Shop",
    ]
    done = init(answers="\n".join(answers) + "\n")
    assert done.exit_code == 0, done.output
    assert "is no organisation" in done.output
    assert "is no https address" in done.output
    plain, secret = folder / "triage.toml", folder / "triage.secrets.toml"
    assert read(plain)["azure_devops"] | {"expires_on": ""} == {
        "url": played.url,
        "auth": "token",
        "expires_on": "",
    }
    assert read(plain)["owners"] == {"default_team": "Platform"}
    assert read(secret)["azure_devops"] == {"token": TOKEN}
    password = read(secret)["hook"]["password"]
    assert len(password) >= 40
    for file in (plain, secret):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for shown in (TOKEN, password):
        assert shown not in done.output
        assert shown not in plain.read_text()
    assert "ok      identity: triage in" in done.output
    assert "triage explain RUN_URL" in done.output
    made = list(organisation.subscriptions.values())
    assert len(made) == 3
    assert made[0]["consumerInputs"]["basicAuthPassword"] == password
    assert made[0]["consumerInputs"]["url"] == "https://127.0.0.1:1/hooks/azure-devops"


def test_flags_and_environment_say_it_all(
    folder: Path, played: Played, organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAGE_AZURE_DEVOPS__TOKEN", TOKEN)
    monkeypatch.setenv("TRIAGE_HOOK__PASSWORD", "from the environment, 1234567890 long")
    flags = ("--organization", played.url, "--auth", "token", "--no-input")
    done = init(*flags, "--public-url", "https://127.0.0.1:1", "--all-projects")
    assert done.exit_code == 0, done.output
    assert read(folder / "triage.toml")["azure_devops"] == {"url": played.url, "auth": "token"}
    assert not (folder / "triage.secrets.toml").exists()
    assert len(organisation.subscriptions) == 6


def test_hooks_that_cannot_be_installed_are_told(
    folder: Path, played: Played, organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAGE_AZURE_DEVOPS__TOKEN", TOKEN)
    organisation.allow_local_hooks = False
    flags = ("--organization", played.url, "--auth", "token", "--no-input", "--all-projects")
    done = init(*flags, "--public-url", "https://127.0.0.1:1")
    assert (done.exit_code, "The hooks are not installed" in done.output) == (2, True)


def test_what_is_there_is_not_overwritten(
    folder: Path, played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAGE_AZURE_DEVOPS__TOKEN", TOKEN)
    (folder / "triage.toml").write_text("workers = 7\n")
    flags = ("--organization", played.url, "--auth", "token", "--no-input")
    done = init(*flags)
    assert (done.exit_code, "exists already" in done.output) == (2, True)
    assert (folder / "triage.toml").read_text() == "workers = 7\n"
    done = init(*flags, "--force")
    assert done.exit_code == 0, done.output
    assert "workers" not in read(folder / "triage.toml")


def test_a_set_up_that_does_not_work_is_written_and_told(
    folder: Path, played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAGE_AZURE_DEVOPS__TOKEN", "wrong")
    done = init("--organization", played.url, "--auth", "token", "--no-input")
    assert done.exit_code == 2
    assert "error   identity" in done.output
    assert "mend what is named above, then: triage doctor" in done.output
    assert (folder / "triage.toml").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((), "--organization is missing"),
        (("--organization", "https://dev.azure.com/contoso"), "--auth is missing"),
        (
            ("--organization", "https://dev.azure.com/contoso", "--auth", "token"),
            "TRIAGE_AZURE_DEVOPS__TOKEN is not set",
        ),
        (("--organization", "https://contoso.example"), "is no organisation"),
    ],
)
def test_without_questions_every_answer_must_be_there(
    folder: Path, flags: tuple[str, ...], told: str
) -> None:
    done = init("--no-input", *flags)
    assert (done.exit_code, told in done.output) == (2, True)
    assert list(folder.iterdir()) == []


def test_a_password_in_the_databases_address_is_a_secret(
    folder: Path, played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAGE_AZURE_DEVOPS__TOKEN", TOKEN)
    address = 'postgresql://triage:p"ss@127.0.0.1:1/triage'
    done = init("--organization", played.url, "--auth", "token", "--no-input", "--database-url", address)
    assert read(folder / "triage.secrets.toml")["database"] == {"url": address}
    assert "database" not in read(folder / "triage.toml")
    assert 'p"ss' not in done.output


def test_a_second_credential_is_kept_apart(folder: Path, played: Played) -> None:
    answers = [played.url, "token", TOKEN, "", "y", "service-principal", "t", "c", "", "s3cret", "2099-01-31"]
    init(answers="\n".join([*answers, "", "", ""]) + "\n")
    assert read(folder / "triage.toml")["azure_devops"]["writer"] | {"expires_on": ""} == {
        "auth": "service-principal",
        "tenant_id": "t",
        "client_id": "c",
        "expires_on": "",
    }
    assert read(folder / "triage.secrets.toml")["azure_devops"] == {
        "token": TOKEN,
        "writer": {"client_secret": "s3cret"},
    }


def test_in_a_script_nobody_answers_and_that_is_said(folder: Path) -> None:
    done = init()
    assert done.exit_code == 2
    assert "nobody answers: run triage init in a terminal, or give everything as flags" in done.output
