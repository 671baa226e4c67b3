"""Signing in: each kind of credential against a played Entra, and what is said when it is refused."""

from __future__ import annotations

import os
import stat
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from pydantic import SecretStr

from tests.sandbox.conftest import RUN, TOKEN
from triage import azdo, config
from triage.azdo import sign_in
from triage.domain import RunRef
from triage.errors import AccessRefused, RetryLater, UsageError
from triage.sandbox import entra
from triage.sandbox.organisation import Fault
from triage.sandbox.tokens import Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from triage.sandbox.organisation import Organisation, Project
    from triage.sandbox.server import Played

REF = RunRef("Shop", RUN)
TOMORROW, YESTERDAY = (datetime.now(UTC) + timedelta(days=days) for days in (1, -1))


@pytest.fixture
def authority(
    organisation: Organisation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[entra.Authority]:
    for name in [name for name in os.environ if name.startswith(("AZURE_", "IDENTITY_", "MSI_"))]:
        if name != "AZURE_DEVOPS_CACHE_DIR":
            monkeypatch.delenv(name)
    with entra.serve(organisation, tmp_path) as served:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", served.ca_file)
        yield served


def principal(application: entra.Application, authority: entra.Authority, **more: Any) -> config.AzureDevOps:
    return config.AzureDevOps(
        auth="service-principal",
        tenant_id=application.tenant_id,
        client_id=application.client_id,
        authority=authority.url,
        **more,
    )


def door(played: Played, section: config.AzureDevOps) -> azdo.Door:
    return azdo.account(section.model_copy(update={"url": played.url})).door()


def test_a_service_principal_signs_in_with_its_secret(played: Played, authority: entra.Authority) -> None:
    application = authority.add(secrets={"s3cret": TOMORROW})
    opened = door(played, principal(application, authority, client_secret=SecretStr("s3cret")))
    assert opened.run(REF).number == "20261121.1"
    opened.timeline(REF)
    assert len(authority.issued) == 1


def test_a_service_principal_signs_in_with_its_certificate(
    played: Played, authority: entra.Authority, tmp_path: Path
) -> None:
    known, pem = entra.certificate("triage")
    (tmp_path / "own.pem").write_bytes(pem)
    application = authority.add(certificates=[known])
    section = principal(application, authority, certificate_file=tmp_path / "own.pem")
    assert door(played, section).run(REF).number == "20261121.1"
    application.certificates.clear()
    with pytest.raises(AccessRefused, match=r"upload the one in azure_devops\.certificate_file"):
        door(played, section).run(REF)


def test_a_workload_signs_in_with_the_token_it_was_given(
    played: Played, authority: entra.Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, foreign = (jwt.encode({"sub": name}, "k" * 32) for name in ("triage", "another"))
    application = authority.add(workload_tokens={trusted})
    monkeypatch.setenv("AZURE_TENANT_ID", application.tenant_id)
    monkeypatch.setenv("AZURE_CLIENT_ID", application.client_id)
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
    section = config.AzureDevOps(auth="workload-identity", authority=authority.url)
    (tmp_path / "token").write_text(trusted)
    assert door(played, section).run(REF).number == "20261121.1"
    (tmp_path / "token").write_text(foreign)
    with pytest.raises(AccessRefused, match=r"compare the issuer, subject.*AADSTS700213"):
        door(played, section).run(REF)


def test_a_machine_without_an_identity_is_told_soon(
    played: Played, authority: entra.Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
    with pytest.raises(RetryLater, match="Assign a managed identity to where triage runs"):
        door(played, config.AzureDevOps(auth="managed-identity")).run(REF)


@pytest.mark.parametrize("place", ["App Service", "virtual machine"])
def test_a_managed_identity_signs_in_without_a_secret(
    played: Played, authority: entra.Authority, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    application = authority.add(is_managed_identity=True)
    if place == "App Service":
        for name, value in authority.app_service().items():
            monkeypatch.setenv(name, value)
    else:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", authority.identity_url)
    section = config.AzureDevOps(auth="managed-identity", client_id=application.client_id)
    assert door(played, section).run(REF).number == "20261121.1"
    application.is_managed_identity = False
    with pytest.raises(AccessRefused, match=r"Assign a managed identity"):
        door(played, section).run(REF)


def test_a_person_signs_in_by_azure_cli(
    played: Played, organisation: Organisation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    organisation.tokens["from-az"] = Token("entra")
    (tmp_path / "az").write_text(
        "#!/bin/sh\n"
        '[ -e "$(dirname "$0")/out" ] && { echo "ERROR: Please run \'az login\'" >&2; exit 1; }\n'
        'echo \'{"accessToken": "from-az", "expires_on": 4102444800, "tokenType": "Bearer"}\'\n'
    )
    (tmp_path / "az").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    section = config.AzureDevOps(auth="azure-cli")
    assert door(played, section).run(REF).number == "20261121.1"
    (tmp_path / "out").touch()
    with pytest.raises(AccessRefused, match="az login"):
        door(played, section).run(REF)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"client_secret": SecretStr("wrong")}, r"must be the secret's value, not its ID.*AADSTS7000215"),
        ({"client_secret": SecretStr("old")}, r"expired: create a new one.*client_secret.*AADSTS7000222"),
        ({"client_id": "5b6e4ed3-0000-4000-8000-000000000000"}, r"no such application.*AADSTS700016"),
    ],
    ids=["wrong", "expired", "unknown"],
)
def test_a_refused_principal_is_told_what_to_do(
    played: Played, authority: entra.Authority, change: dict[str, Any], told: str
) -> None:
    application = authority.add(secrets={"s3cret": TOMORROW, "old": YESTERDAY})
    section = principal(application, authority, client_secret=SecretStr("s3cret")).model_copy(update=change)
    with pytest.raises(AccessRefused, match=told) as refused:
        door(played, section).run(REF)
    assert "service-principal (azure_devops.auth)" in str(refused.value)
    assert "Trace ID" not in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_an_entra_that_is_away_says_nothing_about_the_credential(
    played: Played, authority: entra.Authority
) -> None:
    application = authority.add(is_managed_identity=True, secrets={"s3cret": TOMORROW})
    section = principal(application, authority, client_secret=SecretStr("s3cret"))
    authority.away = 100
    with pytest.raises(RetryLater, match="could not be asked"):
        door(played, section).run(REF)
    nowhere = section.model_copy(update={"authority": "https://localhost:1"})
    with pytest.raises(RetryLater, match="could not be asked"):
        door(played, nowhere).run(REF)
    authority.away = 0
    assert door(played, section).run(REF).number == "20261121.1"


def test_a_token_is_renewed_before_it_expires_and_a_failed_renewal_is_survived(
    played: Played, authority: entra.Authority
) -> None:
    application = authority.add(secrets={"s3cret": TOMORROW})
    opened = door(played, principal(application, authority, client_secret=SecretStr("s3cret")))
    authority.lifetime_seconds = 200  # under five minutes: too little to rest on
    opened.run(REF)
    opened.run(REF)
    assert len(set(authority.issued)) >= 2
    application.secrets.clear()
    opened.run(REF)  # the last one still holds
    for bearer, token in list(played.organisation.tokens.items()):
        if token.kind == "entra":
            played.organisation.tokens[bearer] = Token("entra", expires_at=time.time() - 1)
    with pytest.raises(AccessRefused, match="add that identity to the organisation"):
        opened.run(REF)


def test_an_expired_token_whose_renewal_is_refused_names_the_credential(
    played: Played, authority: entra.Authority
) -> None:
    application = authority.add(secrets={"s3cret": TOMORROW})
    authority.lifetime_seconds = 1
    opened = door(played, principal(application, authority, client_secret=SecretStr("s3cret")))
    opened.timeline(REF)
    application.secrets["s3cret"] = YESTERDAY
    deadline = time.monotonic() + 10
    with pytest.raises(AccessRefused, match="AADSTS7000222"):
        _until(deadline, lambda: opened.timeline(REF))


def _until(deadline: float, ask: Callable[[], object]) -> None:
    while time.monotonic() < deadline:
        ask()
        time.sleep(0.2)


def test_many_threads_share_one_credential(played: Played, authority: entra.Authority) -> None:
    application = authority.add(secrets={"s3cret": TOMORROW})
    section = principal(application, authority, client_secret=SecretStr("s3cret"))
    account = azdo.account(section.model_copy(update={"url": played.url}))
    threads = [threading.Thread(target=account.door().run, args=(REF,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(authority.issued) == 1


def test_the_writer_writes_and_the_reader_reads(
    played: Played, organisation: Organisation, shop: Project
) -> None:
    reader, writer = frozenset({"vso.build", "vso.work"}), frozenset({"vso.work_write", "vso.build_execute"})
    organisation.tokens |= {"read": Token(scopes=reader), "write": Token(scopes=writer)}
    section = config.AzureDevOps(
        url=played.url, token=SecretStr("read"), writer=config.Credential(token=SecretStr("write"))
    )
    opened = azdo.account(section).door()
    opened.add_tag(REF, "expired-credential")
    opened.create_work_item(shop.id, "Bug", [{"op": "add", "path": "/fields/System.Title", "value": "t"}])
    assert opened.find_work_items(shop.id, "triage-00aa") == []
    assert opened.run(REF).number == "20261121.1"
    alone = azdo.connect(played.url, "read")
    with pytest.raises(AccessRefused, match=r"azure_devops\.token"):
        alone.add_tag(REF, "expired-credential")
    organisation.faults.append(Fault("PUT", "tags", status=401))
    with pytest.raises(
        AccessRefused, match=r"azure_devops\.writer\.token \(TRIAGE_AZURE_DEVOPS__WRITER__TOKEN\)"
    ):
        opened.add_tag(REF, "expired-credential")


def test_a_machines_netrc_does_not_replace_the_token(
    played: Played, authority: entra.Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    application = authority.add(secrets={"s3cret": TOMORROW})
    section = principal(application, authority, client_secret=SecretStr("s3cret"))
    assert door(played, section).run(REF).number == "20261121.1"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, r"azure_devops\.token is not set.*or sign in without one"),
        ({"auth": "workload-identity"}, "azure_devops.auth = 'workload-identity'"),
        ({"auth": "service-principal"}, "tenant_id is not set"),
        ({"auth": "service-principal", "tenant_id": "t"}, "client_id is not set"),
        ({"auth": "service-principal", "tenant_id": "t", "client_id": "c"}, "either client_secret"),
        (
            {
                "auth": "service-principal",
                "tenant_id": "t",
                "client_id": "c",
                "certificate_file": "missing.pem",
            },
            "missing.pem cannot be used",
        ),
    ],
)
def test_what_is_missing_is_named(given: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match=told):
        sign_in.from_settings(config.AzureDevOps(**given))


def test_a_played_token_is_still_a_token(played: Played) -> None:
    assert azdo.connect(played.url, TOKEN).run(REF).number == "20261121.1"


def test_the_file_of_secrets_the_environment_and_the_file_go_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.toml").write_text(
        '[azure_devops]\nurl = "https://dev.azure.com/contoso"\ntoken = "plain"\n'
    )
    (tmp_path / "own.secrets.toml").write_text(
        '[azure_devops]\ntoken = "hush"\n[azure_devops.writer]\ntoken = "writer"\n'
    )
    monkeypatch.setenv("TRIAGE_CONFIG", str(tmp_path / "own.toml"))
    section = config.load().azure_devops
    assert section.url == "https://dev.azure.com/contoso"
    assert [each.get_secret_value() for each in section.secrets()] == ["hush"]
    assert [each.get_secret_value() for each in section.writer.secrets()] == ["writer"]
    monkeypatch.setenv("TRIAGE_AZURE_DEVOPS__WRITER__TOKEN", "from the environment")
    assert [each.get_secret_value() for each in config.load().azure_devops.writer.secrets()] == [
        "from the environment"
    ]
    assert "hush" not in repr(section)
