"""The command line as a person uses it: what it prints and how it exits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from triage import demo
from triage.sandbox import hooks, stories

if TYPE_CHECKING:
    from collections.abc import Iterator

ACR = "2026-11-21T03:12:00.0000000Z ##[error]unauthorized: Invalid clientid or client secret.\n"
FORBIDDEN = 'Error from server (Forbidden): pods is forbidden: User "shop" cannot list resource "pods"\n'
ROOT = Path(__file__).parent.parent
# In a checkout `-m triage` would set itself up first; this interpreter has everything already.
PROGRAM = "import sys; from triage.cli import main; sys.argv[0] = 'triage'; main()"


def triage(
    *arguments: str, stdin: bytes = b"", settings: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    given = {key: value for key, value in os.environ.items() if not key.startswith("TRIAGE_")}
    environment = {
        **given,
        "TRIAGE_CONFIG": os.devnull,
        "PYTHONPATH": str(ROOT),
        "NO_COLOR": "1",
        **(settings or {}),
    }
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        input=stdin,
        capture_output=True,
        env=environment,
        check=False,
    )


def test_a_finding_is_one_json_object_a_line(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    log.write_text("fine\r\n" + ACR)
    done = triage("scan", "--format", "json", str(log))
    (line,) = done.stdout.splitlines()
    assert list(json.loads(line)) == [
        "path",
        "line",
        "rule",
        "credential",
        "verdict",
        "confidence",
        "captures",
        "excerpt",
    ]
    assert json.loads(line)["line"] == 2
    assert json.loads(line)["credential"] == "azure-container-registry"
    assert done.returncode == 1


@pytest.mark.parametrize("file", [True, False])
def test_the_settings_name_the_pack_to_scan_with(tmp_path: Path, *, file: bool) -> None:
    settings = {"TRIAGE_RULES__PATH": "no-pack"}
    if file:
        (tmp_path / "triage.toml").write_text('[rules]\npath = "no-pack"\n')
        settings = {}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TRIAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "scan", "-"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT), **settings},
        check=False,
    )
    assert done.returncode == 2
    assert b"no-pack is no folder" in done.stderr


def test_a_scan_waits_for_no_package_that_it_does_not_need(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TRIAGE_")}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", PROGRAM, "scan", "--format", "json", os.devnull],
        capture_output=True,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.decode().split("\n")}
    assert "regex" in loaded
    assert not loaded & {
        "pydantic_settings",
        "rich",
        "azure",
        "requests",
        "sqlmodel",
        "multiprocessing",
        "asyncio",
    }


def test_standard_input_is_a_log_too() -> None:
    assert triage("scan", "-", stdin=ACR.encode()).returncode == 1


@pytest.mark.parametrize("content", [b"", b"all is well\r\n", bytes(range(256)) * 1000, b"\x00" * 100_000])
def test_nothing_found_is_zero(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    done = triage("scan", str(tmp_path / "x"))
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"No expired or refused credential in 1 log." in done.stdout


def test_a_look_alike_alone_is_told_and_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(FORBIDDEN)
    done = triage("scan", str(tmp_path))
    assert done.returncode == 0
    assert b"look-alike" in done.stdout


def test_folders_are_walked_and_hidden_files_left_out(tmp_path: Path) -> None:
    for name in ("b/two.log", "a/one.log", ".git/hidden.log"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(ACR)
    done = triage("scan", "--format", "json", str(tmp_path))
    paths = [json.loads(line)["path"] for line in done.stdout.splitlines()]
    assert paths == [str(tmp_path / "a/one.log"), str(tmp_path / "b/two.log")]


def test_an_input_that_cannot_be_read_is_named_and_the_others_are_scanned(tmp_path: Path) -> None:
    (tmp_path / "good.log").write_text(ACR)
    done = triage("scan", "--format", "json", str(tmp_path / "missing.log"), str(tmp_path / "good.log"))
    assert done.returncode == 3
    assert b"missing.log cannot be read: No such file or directory; check the path." in done.stderr
    assert b"acr-invalid-client" in done.stdout


def test_a_hundred_megabytes_are_scanned(tmp_path: Path) -> None:
    log = tmp_path / "big.log"
    line = b"2026-11-21T03:12:00.0000000Z npm http fetch GET 200 https://feed.example/left-pad 12ms\n"
    with log.open("wb") as file:
        for _ in range(100):
            file.write(line * (1024 * 1024 // len(line)))
        file.write(ACR.encode())
    done = triage("scan", "--format", "json", str(log))
    assert json.loads(done.stdout)["line"] == 100 * (1024 * 1024 // len(line)) + 1


def test_every_mistake_of_a_rule_pack_is_told_and_nothing_starts(tmp_path: Path) -> None:
    good = next((ROOT / "rules").rglob("acr-invalid-client.toml")).read_text()
    (tmp_path / "one.toml").write_text("id = ")
    (tmp_path / "two.toml").write_text(good.replace('verdict = "rejected"', 'verdict = "gone"'))
    (tmp_path / "three.toml").write_text(good.replace("pattern =", "patern ="))
    for arguments in (["rules", "check", str(tmp_path)], ["scan", "--rules", str(tmp_path), "-"]):
        done = triage(*arguments)
        told = done.stderr.decode()
        assert done.returncode == 4
        assert "one.toml: not valid TOML" in told
        assert "two.toml: verdict:" in told
        assert "three.toml: patern: no such key; did you mean 'pattern'?" in told
    done = triage("serve", settings={**SERVABLE, "TRIAGE_RULES__PATH": str(tmp_path)})
    assert done.returncode == 4


def test_the_shipped_rules_are_in_order() -> None:
    done = triage("rules", "check")
    assert (done.returncode, done.stderr) == (0, b"")


SERVABLE = {
    "TRIAGE_AZURE_DEVOPS__URL": "https://dev.azure.com/contoso",
    "TRIAGE_AZURE_DEVOPS__TOKEN": "t",
    "TRIAGE_HOOK__PASSWORD": "p",
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"TRIAGE_AZURE_DEVOPS__URL": ""}, "azure_devops.url is not set"),
        ({"TRIAGE_AZURE_DEVOPS__URL": "dev.azure.com/contoso"}, "is no organisation"),
        ({"TRIAGE_HOOK__PASSWORD": ""}, "hook.password is empty"),
        ({"TRIAGE_DATABASE__URL": "sqlite:////nowhere/at/all/triage.db"}, "cannot be opened for writing"),
        ({"TRIAGE_DATABASE__URL": "mysql://x"}, "is not supported"),
        ({"TRIAGE_SERVER__PORT": "99999"}, "server.port"),
        ({"TRIAGE_SERVER__PRT": "1"}, "did you mean 'port'?"),
        ({"TRIAGE_SERVICE_BUS__FORWARD": "true"}, "service_bus.forward is on, but there is no Service Bus"),
        ({"TRIAGE_SERVICE_BUS__CONNECTION_STRING": "x"}, "service_bus.connection_string (TRIAGE_SERVICE_BUS"),
        ({"TRIAGE_OWNERS__FILE": "missing.toml"}, "missing.toml cannot be read"),
        ({"TRIAGE_CONFIG": "missing.toml", "TRIAGE_AZURE_DEVOPS__TOKEN": ""}, "azure_devops.token"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_serve_says_what_is_wrong_and_does_not_start(
    tmp_path: Path, change: dict[str, str], told: str
) -> None:
    settings = {
        **SERVABLE,
        "TRIAGE_DATABASE__URL": f"sqlite:///{tmp_path}/x.db",
        "TRIAGE_SERVER__PORT": "0",
        **change,
    }
    done = triage("serve", settings=settings)
    assert told in done.stderr.decode()
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_a_busy_port_is_told_with_the_way_out(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = triage(
            "serve",
            "--port",
            port,
            settings={**SERVABLE, "TRIAGE_DATABASE__URL": f"sqlite:///{tmp_path}/x.db"},
        )
    assert f"Cannot listen on 127.0.0.1:{port}" in done.stderr.decode()
    assert "--port" in done.stderr.decode()
    assert done.returncode == 2


def test_serve_stops_in_order_when_told_to(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {**SERVABLE, "TRIAGE_DATABASE__URL": f"sqlite:///{tmp_path}/x.db", "TRIAGE_CONFIG": os.devnull}
    serving = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "serve", "--port", str(port)],
        env={**os.environ, **settings, "PYTHONPATH": str(ROOT)},
    )
    try:
        for _ in range(300):
            try:
                assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=5).ok
                break
            except requests.ConnectionError:
                time.sleep(0.05)
        serving.terminate()
        assert serving.wait(30) == 0
    finally:
        serving.kill()


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[demo.Stage]:
    """One failed run that triage itself is not told of."""
    (story,) = (s for s in stories.load() if s.name == "arm-automatic-secret")
    with demo.stage(tmp_path_factory.mktemp("cli")) as stage:
        story.set_up(stage.organisation)
        stage.organisation.subscriptions.clear()
        story.play(stage.organisation, lambda event: hooks.deliver(stage.organisation, event))
        yield stage


def run_url(stage: demo.Stage) -> str:
    (project,) = stage.organisation.projects.values()
    (number,) = project.builds
    return f"{stage.organisation.url}/{project.name}/_build/results?buildId={number}"


def token(stage: demo.Stage) -> str:
    secret = stage.settings.azure_devops.token
    assert secret is not None
    return secret.get_secret_value()


def test_explain_tells_the_story_and_writes_nothing(failed: demo.Stage) -> None:
    done = triage(
        "explain", run_url(failed), "--format", "json", settings={"TRIAGE_AZURE_DEVOPS__TOKEN": token(failed)}
    )
    told: dict[str, Any] = json.loads(done.stdout)
    (finding,) = told["findings"]
    assert finding["connection"]["name"] == "catalogue-prod"
    assert finding["connection"]["method"] == "input of the failed task"
    assert finding["renewal"]["recipe"] == "azurerm-automatic-secret"
    assert finding["renewal"]["command_line"][0].startswith("There is no command")
    assert "fails until it is saved" in finding["renewal"]["meanwhile"]
    assert finding["owner"]["assignee"] == "platform.engineer@contoso.example"
    assert any("work item" in would for would in finding["would"])
    assert done.returncode == 0
    assert failed.organisation.ledger == []


def test_explain_reads_well(failed: demo.Stage) -> None:
    done = triage("explain", run_url(failed), settings={"TRIAGE_AZURE_DEVOPS__TOKEN": token(failed)})
    text = done.stdout.decode()
    for word in ("evidence", "connection", "owner", "renewal", "would", "catalogue-prod", "1. "):
        assert word in text
    for word in (
        "by command",
        "who may",
        "to check",
        "meanwhile",
        "again in    three months",
        "instead",
        "sources",
    ):
        assert word in text
    assert "`az devops service-endpoint show " in text  # commands as they are, to be copied


@pytest.mark.parametrize(
    ("url", "given", "told"),
    [
        ("not a url", "t", "is not the page of a run"),
        ("https://dev.azure.com/contoso/Shop/_git/web", "t", "not the page of a run"),
        ("https://dev.azure.com/contoso/Shop/_build/results?buildId=1", "", "No token"),
    ],
)
def test_explain_says_what_it_needs(url: str, given: str, told: str) -> None:
    done = triage("explain", url, settings={"TRIAGE_AZURE_DEVOPS__TOKEN": given})
    assert told in done.stderr.decode()
    assert done.returncode == 2


def test_explain_with_a_refused_token_says_so(failed: demo.Stage) -> None:
    done = triage("explain", run_url(failed), settings={"TRIAGE_AZURE_DEVOPS__TOKEN": "wrong"})
    assert "refuses the token" in done.stderr.decode()
    assert done.returncode == 2


def test_explain_of_a_deleted_run_says_so(failed: demo.Stage) -> None:
    url = run_url(failed).split("=", maxsplit=1)[0] + "=987654"
    done = triage("explain", url, settings={"TRIAGE_AZURE_DEVOPS__TOKEN": token(failed)})
    assert "does not exist" in done.stderr.decode()
    assert done.returncode == 2


def test_the_demo_tells_how_to_try_the_other_commands_on_it(
    failed: demo.Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.invite(failed)
    lines = capsys.readouterr().out.splitlines()
    given = dict(line.strip().removeprefix("export ").split("=", 1) for line in lines if "export" in line)
    done = triage(*lines[-1].split()[3:], "--format", "json", settings=given)
    assert "catalogue-prod" in {each["name"] for each in json.loads(done.stdout)}


def test_the_demo_runs_to_its_end_and_lists_every_scenario() -> None:
    done = triage("demo", "--once", "--format", "json")
    told = json.loads(done.stdout)["scenarios"]
    assert {"name", "ok", "expected", "happened"} <= set(told[0])
    assert [each["name"] for each in told if not each["ok"]] == []
    assert len(told) == len(stories.load())
    assert done.returncode == 0
