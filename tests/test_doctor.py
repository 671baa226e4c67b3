"""`triage doctor` against a played organisation and a served triage: each fault is found and told."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from tests.sandbox.conftest import fill
from triage import config, db, demo, doctor
from triage.cli import cli
from triage.doctor import Level, here, organisation
from triage.sandbox import entra, security, tokens
from triage.sandbox.organisation import Fault
from triage.sandbox.tokens import Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

    from triage.config import Settings
    from triage.doctor import Check

PAT = "a-token-with-the-right-scopes"
NEXT_YEAR = datetime.now(UTC).date() + timedelta(days=365)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[demo.Stage]:
    with demo.stage(tmp_path_factory.mktemp("doctor")) as stage:
        fill(stage.organisation.add_project("Shop"))
        stage.organisation.tokens[PAT] = Token(scopes=tokens.ENOUGH)
        yield stage


@pytest.fixture
def stage(served: demo.Stage) -> Iterator[demo.Stage]:
    yield served
    served.organisation.rights = security.ENOUGH
    served.organisation.faults.clear()
    served.organisation.clock_ahead_seconds = 0.0
    for each in served.organisation.subscriptions.values():
        each["status"] = "enabled"


@pytest.fixture
def settings(stage: demo.Stage) -> Settings:
    section = stage.settings.azure_devops.model_copy(
        update={"token": SecretStr(PAT), "expires_on": NEXT_YEAR}
    )
    return stage.settings.model_copy(update={"azure_devops": section})


def changed(settings: Settings, section: str, **values: Any) -> Settings:
    inner = getattr(settings, section).model_copy(update=values)
    return settings.model_copy(update={section: inner})


def faults(settings: Settings, look: Callable[[Settings], Iterator[Check]]) -> list[tuple[str, str, str]]:
    """Return what is not fine: name, level, and what is told with its fix."""
    found = list(look(settings))
    assert all(bool(each.fix) is (each.level is not Level.OK) for each in found)
    return [
        (each.name, each.level.value, f"{each.told} {each.fix}")
        for each in found
        if each.level is not Level.OK
    ]


def fault(settings: Settings, look: Callable[[Settings], Iterator[Check]]) -> tuple[str, str, str]:
    (only,) = faults(settings, look)
    return only


def test_a_set_up_in_order_has_no_fault_and_nothing_is_written(stage: demo.Stage, settings: Settings) -> None:
    before = len(stage.organisation.ledger)
    found = list(doctor.examine(changed(settings, "after_renewal", test_credential=True)))
    assert [each for each in found if each.level is not Level.OK] == []
    assert {each.name for each in found} >= {
        "settings",
        "credential test",
        "hook secret",
        "rule pack",
        "owners",
        "database",
        "queue",
        "public address",
        "credential",
        "identity",
        "clock",
        "projects",
        "reading",
        "token scopes",
        "rights",
        "excess rights",
        "right to subscribe",
        "hooks",
    }
    assert doctor.exit_code(found) == 0
    assert len(stage.organisation.ledger) == before


@pytest.mark.parametrize(
    ("update", "level", "told"),
    [
        ({"expires_on": None}, "warning", "nobody tells when it expires. Set azure_devops.expires_on"),
        ({"expires_on": datetime.now(UTC).date() + timedelta(days=3)}, "warning", "in 3 days. Renew it"),
        ({"expires_on": datetime.now(UTC).date() - timedelta(days=2)}, "error", "it expired on"),
    ],
)
def test_the_tokens_end_is_told_ahead(
    settings: Settings, update: dict[str, Any], level: str, told: str
) -> None:
    name, found, words = fault(changed(settings, "azure_devops", **update), organisation.examine)
    assert (name, found) == ("credential", level)
    assert told in words


def test_a_certificates_end_is_read_from_it(settings: Settings, tmp_path: Path) -> None:
    _, pem = entra.certificate("triage", days=5)
    (tmp_path / "own.pem").write_bytes(pem)
    update = {
        "auth": "service-principal",
        "tenant_id": "t",
        "client_id": "c",
        "certificate_file": tmp_path / "own.pem",
        "authority": "https://localhost:1",
    }
    words = {
        name: told
        for name, _, told in faults(changed(settings, "azure_devops", **update), organisation.examine)
    }
    assert "Entra, by service-principal; it expires on" in words["credential"]
    assert "could not be asked" in words["identity"]


def test_a_refused_token_is_told(settings: Settings) -> None:
    name, level, told = fault(
        changed(settings, "azure_devops", token=SecretStr("wrong")), organisation.examine
    )
    assert (name, level) == ("identity", "error")
    assert "TRIAGE_AZURE_DEVOPS__TOKEN" in told


def test_an_organisation_that_does_not_answer_is_told(settings: Settings) -> None:
    name, level, told = fault(
        changed(settings, "azure_devops", url="http://127.0.0.1:1/contoso"), organisation.examine
    )
    assert (name, level, "could not be reached" in told) == ("identity", "error", True)
    assert "Connection(" not in told, "what refused it, in words"


def test_a_missing_scope_is_told(stage: demo.Stage, settings: Settings) -> None:
    stage.organisation.tokens["narrow"] = Token(scopes=tokens.ENOUGH - {"vso.serviceendpoint", "vso.code"})
    found = faults(changed(settings, "azure_devops", token=SecretStr("narrow")), organisation.examine)
    assert found[0][:2] == ("reading", "error")
    assert "in Shop not allowed: service connections, repositories." in found[0][2]


def test_a_token_with_too_many_scopes_is_told(stage: demo.Stage, settings: Settings) -> None:
    stage.organisation.tokens["wide"] = Token()
    name, level, told = fault(
        changed(settings, "azure_devops", token=SecretStr("wide")), organisation.examine
    )
    assert (name, level) == ("token scopes", "warning")
    assert "also reads agent pools" in told


@pytest.mark.parametrize(
    ("lacking", "told"),
    [
        ({"CSS/WORK_ITEM_WRITE"}, "WORK_ITEM_WRITE (filing work items) in Shop"),
        ({"Build/ViewBuilds"}, "ViewBuilds (runs and their logs)"),
        ({"Build/EditBuildQuality", "Build/UpdateBuildInformation"}, "tags on runs"),
        ({"Git Repositories/PullRequestContribute"}, "threads on pull requests"),
    ],
)
def test_a_missing_right_is_told(stage: demo.Stage, settings: Settings, lacking: set[str], told: str) -> None:
    stage.organisation.rights = security.ENOUGH - lacking
    name, level, words = fault(settings, organisation.examine)
    assert (name, level, told in words) == ("missing right", "error", True)


def test_one_of_the_two_rights_to_tag_is_enough(stage: demo.Stage, settings: Settings) -> None:
    stage.organisation.rights = security.ENOUGH - {"Build/EditBuildQuality"}
    assert faults(settings, organisation.examine) == []


def test_excess_rights_are_told(stage: demo.Stage, settings: Settings) -> None:
    stage.organisation.rights = security.ENOUGH | {"Git Repositories/GenericContribute", "Build/DeleteBuilds"}
    name, level, told = fault(settings, organisation.examine)
    assert (name, level) == ("excess rights", "warning")
    assert "in Shop the identity can delete runs, push code" in told


def test_with_two_identities_the_reading_one_should_not_write(stage: demo.Stage, settings: Settings) -> None:
    writes = {"CSS/WORK_ITEM_WRITE", "Tagging/Create", "Git Repositories/PullRequestContribute"}
    stage.organisation.tokens |= {
        "read": Token(scopes=tokens.ENOUGH, rights=security.ENOUGH - writes),
        "write": Token(scopes=tokens.ENOUGH, rights=security.ENOUGH - {"ServiceEndpoints/ViewEndpoint"}),
    }
    writer = config.Credential(token=SecretStr("write"), expires_on=NEXT_YEAR)
    both = changed(settings, "azure_devops", token=SecretStr("read"), writer=writer)
    assert faults(both, organisation.examine) == []
    stage.organisation.tokens["read"] = Token(scopes=tokens.ENOUGH)
    name, level, told = fault(both, organisation.examine)
    assert (name, level, "though it only reads (filing work items)" in told) == (
        "excess rights",
        "warning",
        True,
    )


def test_no_right_to_subscribe_is_a_warning(stage: demo.Stage, settings: Settings) -> None:
    stage.organisation.rights = security.ENOUGH - {"ServiceHooks/EditSubscriptions"}
    assert fault(settings, organisation.examine)[:2] == ("right to subscribe", "warning")


def test_a_hook_that_is_switched_off_is_told(stage: demo.Stage, settings: Settings) -> None:
    for each in stage.organisation.subscriptions.values():
        each["status"] = "onProbation"
    found = faults(settings, organisation.examine)
    assert {each[:2] for each in found} == {("hooks", "error")}
    assert "Azure DevOps drops every event" in found[0][2]
    assert "triage hooks repair" in found[0][2]


def test_hooks_cannot_be_found_without_a_public_address(settings: Settings) -> None:
    nowhere = changed(settings, "server", public_url="")
    assert fault(nowhere, organisation.examine)[:2] == ("hooks", "warning")


def test_no_hook_at_all_is_told(settings: Settings) -> None:
    away = changed(settings, "server", public_url="http://127.0.0.1:1")
    assert fault(away, here._public_url)[:2] == ("public address", "warning")
    name, level, told = fault(away, organisation.examine)
    assert (name, level, "triage hooks install" in told) == ("hooks", "warning", True)


@pytest.mark.parametrize(("seconds", "level"), [(90.0, "warning"), (-3600.0, "error")])
def test_a_wrong_clock_is_told(stage: demo.Stage, settings: Settings, seconds: float, level: str) -> None:
    stage.organisation.clock_ahead_seconds = seconds
    name, found, told = fault(settings, organisation.examine)
    assert (name, found) == ("clock", level)
    assert ("behind" if seconds > 0 else "ahead of") in told


@pytest.mark.parametrize("password", ["sh0rt-one", "triage", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"])
def test_a_weak_hook_password_is_told(settings: Settings, password: str) -> None:
    name, level, told = fault(changed(settings, "hook", password=SecretStr(password)), here._hook_secret)
    assert (name, level, "token_urlsafe" in told) == ("hook secret", "warning", True)
    assert password == "triage" or password not in told


def test_no_hook_password_is_an_error(settings: Settings) -> None:
    found = faults(changed(settings, "hook", password=None), here._hook_secret)
    assert found[0][:2] == ("hook secret", "error")


def test_a_database_is_looked_at_and_left_as_it_is(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    new = changed(settings, "database", url=f"sqlite:///{file}")
    assert fault(new, here._database)[:2] == ("database", "warning")
    assert not file.exists()
    engine = db.open_engine(new.database.url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('0000')")
    engine.dispose()
    assert "is at revision 0000; this triage knows" in fault(new, here._database)[2]
    away = changed(settings, "database", url="postgresql://triage:s3cret@127.0.0.1:1/triage")
    name, level, told = fault(away, here._database)
    assert (name, level, "s3cret" in told) == ("database", "error", False)


def test_a_wrong_rule_pack_and_owners_file_are_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text("id = ")
    found = faults(
        changed(changed(settings, "rules", path=tmp_path), "owners", file=tmp_path / "wrong.toml"),
        here.examine,
    )
    assert [each[:2] for each in found] == [("rule pack", "error"), ("owners", "error")]


def test_an_old_rule_pack_and_no_owner_are_warned_of(settings: Settings, tmp_path: Path) -> None:
    rule = next((Path(__file__).parent.parent / "rules").rglob("acr-invalid-client.toml"))
    (tmp_path / rule.name).write_bytes(rule.read_bytes())
    os.utime(tmp_path / rule.name, (1_600_000_000, 1_600_000_000))
    found = faults(
        changed(changed(settings, "rules", path=tmp_path), "owners", default_team=None), here.examine
    )
    assert [each[:2] for each in found] == [("rule pack", "warning"), ("owners", "warning")]
    assert "issuers change their messages" in found[0][2]


def test_another_server_at_the_public_address_is_told(settings: Settings) -> None:
    found = faults(changed(settings, "server", public_url=settings.azure_devops.url), here._public_url)
    assert found[0][:2] == ("public address", "error")
    assert "not as triage does" in found[0][2]


def test_a_permission_api_that_fails_does_not_end_the_rest(stage: demo.Stage, settings: Settings) -> None:
    stage.organisation.faults.append(Fault("POST", "permissionevaluationbatch", status=403))
    found = faults(settings, organisation.examine)
    assert [each[:2] for each in found] == [("rights", "error")]


def environment(settings: Settings) -> dict[str, str]:
    password = settings.hook.password
    return {
        "TRIAGE_AZURE_DEVOPS__URL": settings.azure_devops.url,
        "TRIAGE_AZURE_DEVOPS__TOKEN": PAT,
        "TRIAGE_AZURE_DEVOPS__EXPIRES_ON": NEXT_YEAR.isoformat(),
        "TRIAGE_DATABASE__URL": settings.database.url,
        "TRIAGE_HOOK__PASSWORD": password.get_secret_value() if password else "",
        "TRIAGE_SERVER__PUBLIC_URL": settings.server.public_url,
        "TRIAGE_OWNERS__DEFAULT_TEAM": "Platform",
    }


def command(*arguments: str, settings: dict[str, str]) -> Result:
    return CliRunner().invoke(cli, ["doctor", *arguments], env=settings)


def test_the_command_tells_and_exits_by_what_it_found(
    stage: demo.Stage, settings: Settings, tmp_path: Path
) -> None:
    good = environment(settings)
    done = command(settings=good)
    assert (done.exit_code, "0 warnings, 0 errors." in done.output) == (0, True)
    done = command("--format", "json", settings=good | {"TRIAGE_OWNERS__DEFAULT_TEAM": ""})
    assert done.exit_code == 1
    assert [each["name"] for each in json.loads(done.output) if each["level"] == "warning"] == ["owners"]
    done = command(settings=good | {"TRIAGE_AZURE_DEVOPS__TOKEN": "wrong"})
    assert (done.exit_code, "fix: Renew" in done.output) == (2, True)
    done = command(settings=good | {"TRIAGE_SERVER__PRT": "1"})
    assert (done.exit_code, "did you mean 'port'?" in done.output) == (2, True)
    file = tmp_path / "triage.toml"
    file.write_text('[hook]\npassword = "x"\n')
    file.chmod(0o644)
    done = command(settings=good | {"TRIAGE_CONFIG": str(file)})
    assert (done.exit_code, "other users may read it" in done.output) == (2, True)
