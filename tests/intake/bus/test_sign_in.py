"""Who triage is to the Service Bus: every Entra identity that Azure DevOps takes, against a played Entra."""

from __future__ import annotations

import os
import stat
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from azure.servicebus._pyamqp import cbs
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from pydantic import SecretStr

from tests.intake.bus.conftest import ORGANIZATION, failed, put, receiving, runs, until
from triage import config
from triage.cli import cli
from triage.doctor import here
from triage.doctor import organisation as there
from triage.errors import UsageError
from triage.intake.bus import Bus, require_usable
from triage.sandbox import entra
from triage.sandbox.organisation import Organisation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

    from triage.sandbox.bus import Broker, Queue

TOMORROW, YESTERDAY = (datetime.now(UTC) + timedelta(days=days) for days in (1, -1))


@pytest.fixture
def authority(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[entra.Authority]:
    """Play an Entra whose tokens the Service Bus takes."""
    for name in [name for name in os.environ if name.startswith(("AZURE_", "IDENTITY_", "MSI_"))]:
        if name != "AZURE_DEVOPS_CACHE_DIR":
            monkeypatch.delenv(name)
    with entra.serve(Organisation("contoso"), tmp_path) as served:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", served.ca_file)
        broker.tokens, broker.presented = served.bus_tokens, []
        yield served
        broker.tokens = {}


def settings_in_entra(
    broker: Broker, queue: Queue, section: dict[str, Any], own: dict[str, Any] | None = None
) -> config.Settings:
    return config.Settings(
        azure_devops=config.AzureDevOps(url=ORGANIZATION, **section),
        hook=config.Hook(password=SecretStr("open sesame")),
        service_bus=config.ServiceBus(
            namespace=broker.host, queue=queue.name, receivers=1, credential=config.Credential(**(own or {}))
        ),
    )


def principal(authority: entra.Authority, **more: Any) -> dict[str, Any]:
    application = authority.add(secrets={"s3cret": TOMORROW, "old": YESTERDAY})
    return {
        "auth": "service-principal",
        "tenant_id": application.tenant_id,
        "client_id": application.client_id,
        "authority": authority.url,
        "client_secret": "s3cret",
        **more,
    }


def _certificate(authority: entra.Authority, folder: Path, _: pytest.MonkeyPatch) -> dict[str, Any]:
    made, pem = entra.certificate("triage")
    (folder / "triage.pem").write_bytes(pem)
    application = authority.add(certificates=[made])
    known = {"tenant_id": application.tenant_id, "client_id": application.client_id}
    file = {"certificate_file": folder / "triage.pem", "authority": authority.url}
    return {"auth": "service-principal", **known, **file}


def _workload(authority: entra.Authority, folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    key = serialization.load_pem_private_key(
        (folder / "entra.pem").read_bytes().split(b"-----END CER")[1][13:], None
    )
    token = jwt.encode({"sub": "system:serviceaccount:triage"}, key, algorithm="RS256")  # type: ignore[arg-type]
    application = authority.add(workload_tokens={token})
    (folder / "token").write_text(token)
    patch.setenv("AZURE_TENANT_ID", application.tenant_id)
    patch.setenv("AZURE_CLIENT_ID", application.client_id)
    patch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(folder / "token"))
    return {"auth": "workload-identity", "authority": authority.url}


def _managed(authority: entra.Authority, _: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    application = authority.add(is_managed_identity=True)
    for name, value in authority.app_service().items():
        patch.setenv(name, value)
    return {"auth": "managed-identity", "client_id": application.client_id}


def _azure_cli(authority: entra.Authority, folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    token = authority.issue(authority.add(), entra.SERVICE_BUS)["access_token"]
    (folder / "az").write_text(
        f'#!/bin/sh\necho \'{{"accessToken": "{token}", "expires_on": {int(time.time()) + 3600}}}\'\n'
    )
    (folder / "az").chmod(stat.S_IRWXU)
    patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return {"auth": "azure-cli"}


@pytest.mark.parametrize(
    "make",
    [lambda authority, *_: principal(authority), _certificate, _workload, _managed, _azure_cli],
    ids=["secret", "certificate", "workload identity", "managed identity", "azure-cli"],
)
def test_the_queue_takes_the_identity_that_azure_devops_takes(
    broker: Broker,
    queue: Queue,
    engine: Engine,
    authority: entra.Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[..., dict[str, Any]],
) -> None:
    put(broker, queue, failed())
    section = make(authority, tmp_path, monkeypatch)
    with receiving(settings_in_entra(broker, queue, section), engine):
        until(lambda: queue.counted["complete"] == 1)
    assert runs(engine) == [42]
    (presented,) = set(broker.presented)
    assert presented in authority.bus_tokens
    told = jwt.decode(presented, options={"verify_signature": False})
    assert told["aud"] == "https://servicebus.azure.net"
    assert not authority.issued, "none for Azure DevOps was asked for, and so none could be sent here"


def test_the_queue_may_have_an_identity_of_its_own(
    broker: Broker, queue: Queue, engine: Engine, authority: entra.Authority
) -> None:
    put(broker, queue, failed())
    other, own = principal(authority), principal(authority)
    with receiving(settings_in_entra(broker, queue, other, own), engine):
        until(lambda: queue.counted["complete"] == 1)
    (presented,) = set(broker.presented)
    assert jwt.decode(presented, options={"verify_signature": False})["appid"] == own["client_id"]


def test_the_token_is_renewed_on_the_open_link_before_it_ends(
    broker: Broker,
    queue: Queue,
    engine: Engine,
    authority: entra.Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ahead, real = [0.0], time.time

    def let_pass(seconds: float) -> None:
        ahead[0] += seconds

    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])  # for Entra, the bus and triage alike
    monkeypatch.setattr(cbs, "utc_now", lambda: datetime.fromtimestamp(time.time(), UTC))
    queue.lock_seconds = 100_000
    with receiving(settings_in_entra(broker, queue, principal(authority)), engine) as bus:
        put(broker, queue, failed(1))
        until(lambda: queue.counted["complete"] == 1)
        until(lambda: bus.state().dead_letters == 0)  # that link is closed
        (receiver,) = bus.receivers
        (line,) = broker.do(lambda: list(broker.connections))
        let_pass(3600 - 200)  # the library asks again when a tenth of the time is left
        until(lambda: len(set(broker.presented)) == 2)
        put(broker, queue, failed(2))
        until(lambda: queue.counted["complete"] == 2)  # what was said of the token has come before it
        let_pass(400)  # the first has ended
        time.sleep(0.3)  # the broker looks twenty times a second whose token has ended
        put(broker, queue, failed(3))
        until(lambda: queue.counted["complete"] == 3)
        assert broker.do(lambda: list(broker.connections)) == [line], "the same connection"
        assert receiver.connected
    assert set(broker.presented) == set(authority.bus_tokens)
    assert not queue.counted["lock lost"]


def test_a_connection_whose_token_has_ended_is_cut_and_made_anew(
    broker: Broker, queue: Queue, engine: Engine, authority: entra.Authority
) -> None:
    authority.lifetime_seconds = 2.0  # too short for the library to renew it in time
    with receiving(settings_in_entra(broker, queue, principal(authority)), engine):
        until(lambda: len(authority.bus_tokens) >= 3)
        put(broker, queue, failed())
        until(lambda: queue.counted["complete"] >= 1)
    assert runs(engine) == [42]


def test_an_identity_that_entra_or_the_bus_refuses_is_named_with_the_remedy(
    broker: Broker, queue: Queue, engine: Engine, authority: entra.Authority
) -> None:
    expired = settings_in_entra(broker, queue, principal(authority, client_secret="old"))
    own = settings_in_entra(broker, queue, {}, principal(authority, client_secret="old"))
    right = settings_in_entra(broker, queue, principal(authority))
    with Bus(expired, engine) as bus:
        until(lambda: "AADSTS7000222" in bus.state().problem)
        assert "set azure_devops.client_secret" in bus.state().problem
        assert all(each.is_alive() for each in bus.threads)
    for settings, said in (
        (expired, "azure_devops.client_secret"),
        (own, "service_bus.credential.client_secret"),
    ):
        (found,) = here._queue(settings)
        assert (found.level.value, "AADSTS7000222" in found.told, said in found.told) == ("error", True, True)
    (found,) = here._queue(right)
    assert (found.level.value, "is reached" in found.told) == ("ok", True)
    broker.tokens = {}  # of another tenant, say
    (found,) = here._queue(right)
    assert "refuses triage's service-principal (azure_devops.auth): it must be valid" in found.told
    authority.away = 100
    (found,) = here._queue(right)
    assert "Entra could not be asked" in found.told
    assert "s3cret" not in found.told


def test_dead_letters_are_shown_with_the_same_identity(
    broker: Broker, queue: Queue, authority: entra.Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {f"CREDENTIAL__{name.upper()}": value for name, value in principal(authority).items()}
    for name, value in {"NAMESPACE": broker.host, "QUEUE": queue.name, **given}.items():
        monkeypatch.setenv(f"TRIAGE_SERVICE_BUS__{name}", value)
    done = CliRunner().invoke(cli, ["bus", "dead-letters", "list"])
    assert (done.exit_code, "has no dead letters" in done.output) == (0, True), done.output
    assert set(broker.presented) == set(authority.bus_tokens)


def test_events_are_forwarded_with_the_same_identity(
    broker: Broker, queue: Queue, engine: Engine, authority: entra.Authority
) -> None:
    settings = settings_in_entra(broker, queue, principal(authority))
    settings.service_bus.forward = True
    with receiving(settings, engine) as bus:
        until(lambda: bus.forwarder is not None and bus.forwarder.connected)
        assert bus.forward(failed())
        until(lambda: queue.counted["complete"] == 1)
    assert len(authority.bus_tokens) == 1, "all links share one identity, and its token"


HOST = "contoso.servicebus.windows.net"


@pytest.mark.parametrize(
    ("section", "own", "said"),
    [
        (
            {"token": "t"},
            {},
            r"needs an Entra identity, but azure_devops\.auth is `token`.*connection_string",
        ),
        ({}, {}, r"set service_bus\.credential\.auth"),
        ({"auth": "managed-identity"}, {"token": "t"}, r"but service_bus\.credential\.auth is `token`"),
        ({"token": "t"}, {"auth": "service-principal"}, r"service_bus\.credential\.tenant_id is not set"),
        ({"auth": "service-principal"}, {}, r"azure_devops\.tenant_id is not set"),
    ],
)
def test_an_identity_that_no_bus_takes_is_refused_at_the_start(
    section: dict[str, Any], own: dict[str, Any], said: str
) -> None:
    settings = config.Settings(
        azure_devops=config.AzureDevOps(**section),
        service_bus=config.ServiceBus(namespace=HOST, credential=config.Credential(**own)),
    )
    with pytest.raises(UsageError, match=said):
        require_usable(settings)


def test_doctor_tells_when_the_queues_own_credential_ends() -> None:
    soon = (datetime.now(UTC) + timedelta(days=3)).date()
    section = config.Credential(auth="service-principal", expires_on=soon)
    (found,) = there._expiry("queue's credential", section, "service_bus.credential")
    assert (found.level.value, f"expires on {soon}" in found.told) == ("warning", True)
