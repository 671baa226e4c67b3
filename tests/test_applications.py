"""What Entra says of a connection's application stands in its renewal, and Graph never holds up a finding."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from tests import findings
from tests.link import played
from tests.test_cli import triage
from triage import azdo, config, diagnosis, jobs, tell
from triage.azdo.graph import Application, Secret
from triage.domain import Verdict
from triage.renewal import registration
from triage.sandbox import entra, server
from triage.sandbox.organisation import Organisation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

    from triage.domain import RunRef

NOW = datetime.now(UTC)
EXPIRED = "AADSTS7000222: The provided client secret keys for app '***' are expired."
NEXT_YEAR = NOW + timedelta(days=365)
LAST_YEAR = NOW - timedelta(days=365)
ENDED = NOW - timedelta(days=2)


@dataclass
class Stage:
    organisation: Organisation
    authority: entra.Authority
    settings: config.Settings
    case: played.Case
    endpoint: dict[str, Any]

    @property
    def app(self) -> str:
        return str(self.endpoint["authorization"]["parameters"]["serviceprincipalid"])

    @property
    def ref(self) -> RunRef:
        return self.case.ref

    def secret(self, starts: datetime, ends: datetime, kind: str = "password") -> None:
        self.authority.graph.add_secret(self.app, starts=starts, ends=ends, kind=kind)

    def register(self) -> None:
        self.authority.graph.register(self.app)

    def warnings(self, known: diagnosis.Knowledge | None = None) -> tuple[str, ...]:
        door = azdo.account(self.settings.azure_devops).door()
        finding = played.conclude(door, known or diagnosis.knowledge(self.settings), self.ref)
        return finding.recipe.warnings


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    organisation = Organisation("contoso")
    case = played.Case(
        name="applications",
        connections={"prod-arm": "azurerm"},
        step={"task": "AzureCLI@2", "name": "Deploy"},
        message=EXPIRED,
        expect="prod-arm",
        designer=[{"task": "AzureCLI@2", "name": "Deploy", "inputs": {"azureSubscription": "prod-arm"}}],
    )
    project = played.set_up(organisation, case)
    endpoint = project.endpoints[case.identity("prod-arm")]
    with (
        server.serve(organisation, token="played"),
        entra.serve(organisation, tmp_path) as authority,
    ):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority.ca_file)
        roles = frozenset({"Application.Read.All"})
        ours = authority.add(secrets={"s3cret": NEXT_YEAR}, graph_roles=roles)
        settings = config.load(
            azure_devops={
                "url": organisation.url,
                "auth": "service-principal",
                "tenant_id": ours.tenant_id,
                "client_id": ours.client_id,
                "client_secret": SecretStr("s3cret"),
                "authority": authority.url,
            },
            policy={"settle_seconds": 0},
            expiry={"graph": True, "graph_url": authority.url},
        )
        endpoint["authorization"]["parameters"]["tenantid"] = ours.tenant_id
        yield Stage(organisation, authority, settings, case, endpoint)


def environment(settings: config.Settings) -> dict[str, str]:
    section = settings.azure_devops
    return {
        "TRIAGE_AZURE_DEVOPS__URL": section.url,
        "TRIAGE_AZURE_DEVOPS__AUTH": "service-principal",
        "TRIAGE_AZURE_DEVOPS__TENANT_ID": section.tenant_id,
        "TRIAGE_AZURE_DEVOPS__CLIENT_ID": section.client_id,
        "TRIAGE_AZURE_DEVOPS__CLIENT_SECRET": "s3cret",
        "TRIAGE_AZURE_DEVOPS__AUTHORITY": section.authority,
        "TRIAGE_EXPIRY__GRAPH": "true",
        "TRIAGE_EXPIRY__GRAPH_URL": settings.expiry.graph_url,
    }


def test_a_newer_password_that_is_valid_means_that_nothing_has_to_be_created(
    stage: Stage, engine: Engine
) -> None:
    """From the wire to the work item, and to `triage explain`; that the creator has left stands beside it."""
    stage.register()
    left = stage.organisation.add_user("kim@left.example", "Kim", isActive=False)
    stage.endpoint |= {"modifiedBy": stage.endpoint["createdBy"], "createdBy": left}
    stage.secret(LAST_YEAR, ENDED)
    stage.secret(NOW - timedelta(days=10), NEXT_YEAR)
    door, known = azdo.account(stage.settings.azure_devops).door(), diagnosis.knowledge(stage.settings)
    known = replace(known, policy=replace(known.policy, group_wait=timedelta(0)))
    diagnosis.triage(door, engine, known, door.run(stage.ref))
    job = jobs.claim(engine, "one")
    assert job is not None
    tell.incident(door, engine, known.policy, "http://127.0.0.1:8080", job)
    (project,) = stage.organisation.projects.values()
    (item,) = project.work_items.values()
    expected = (
        f"In Entra its application has 2 client secrets, and the newest is valid until {NEXT_YEAR:%Y-%m-%d}: "
        "the connection holds an older one. Nothing has to be created if somebody still has its value"
    )
    text = item["fields"]["Microsoft.VSTS.TCM.ReproSteps"].replace("\\", "")
    assert expected in text
    assert "Kim, who created the connection, has left" in text
    assert "abc" not in text, "the hint is a part of the secret"
    page = f"{stage.organisation.url}/{stage.case.project}/_build/results?buildId={stage.ref.id}"
    done = triage("explain", page, "--format", "json", settings=environment(stage.settings))
    (told,) = json.loads(done.stdout)["findings"]
    assert any(expected in warning for warning in told["renewal"]["warnings"])


@pytest.mark.parametrize(
    ("secrets", "changes", "expected"),
    [
        (
            [(LAST_YEAR, ENDED, "password")],
            {},
            f"The only client secret of its application in Entra ended on {ENDED:%Y-%m-%d}. Add a",
        ),
        (
            [(LAST_YEAR, ENDED, "password"), (LAST_YEAR, ENDED - timedelta(days=9), "password")],
            {"data": {"creationMode": "Automatic"}},
            f"Both client secrets of its application in Entra have ended, the last on {ENDED:%Y-%m-%d}. Let",
        ),
        (
            [(NOW - timedelta(minutes=1), NEXT_YEAR, "password")],
            {},
            "It was made after this run failed, so ask whether somebody is at the renewal already.",
        ),
        (
            [(LAST_YEAR, NEXT_YEAR, "password")],
            {"data": {"creationMode": "Automatic"}},
            "Azure DevOps makes the client secret of this connection itself",
        ),
        (
            [(LAST_YEAR, NEXT_YEAR, "password"), (LAST_YEAR + timedelta(days=9), ENDED, "password")],
            {},
            f"and the newest that has not ended is valid until {NEXT_YEAR:%Y-%m-%d}: the connection holds another",
        ),
        ([], {}, "The connection signs in with a client secret, but its application has none in Entra: some"),
        (
            [(LAST_YEAR, NEXT_YEAR, "key")],
            {},
            "has none in Entra, only 1 of another kind: somebody has removed it.",
        ),
    ],
    ids=["ended", "all ended", "just made", "automatic", "newer but ended", "none", "another kind"],
)
def test_the_state_of_the_application_is_told(
    stage: Stage, secrets: list[tuple[datetime, datetime, str]], changes: dict[str, Any], expected: str
) -> None:
    stage.register()
    stage.endpoint.update(changes)
    for starts, ends, kind in secrets:
        stage.secret(starts, ends, kind)
    assert any(expected in warning for warning in stage.warnings()), stage.warnings()


@pytest.mark.parametrize("scheme", ["ServicePrincipal", "WorkloadIdentityFederation"])
def test_a_deleted_application_cannot_be_renewed(stage: Stage, scheme: str) -> None:
    stage.endpoint["authorization"]["scheme"] = scheme
    told = stage.warnings()
    assert any(f"Entra has no application {stage.app} in the connection's tenant" in each for each in told)
    assert any("within 30 days of the deletion restore it" in each for each in told)


def test_what_another_tenant_may_have_is_not_called_deleted(stage: Stage) -> None:
    parameters = stage.endpoint["authorization"]["parameters"]
    parameters["tenantid"] = "00000000-0000-4000-8000-000000000001"
    assert not any("Entra has no application" in each or "deleted" in each for each in stage.warnings())
    assert stage.authority.graph.asked == []
    del parameters["tenantid"]
    assert any("unless the connection belongs to another tenant" in each for each in stage.warnings())


def test_a_storm_asks_once(stage: Stage) -> None:
    stage.register()
    known = diagnosis.knowledge(stage.settings)
    for _ in range(5):
        assert any("has none in Entra" in each for each in stage.warnings(known))
    assert stage.authority.graph.asked == [stage.app]


@pytest.mark.parametrize("how", ["not permitted", "refused", "busy", "away", "hangs"])
def test_graph_that_says_nothing_neither_delays_nor_fails_a_finding(stage: Stage, how: str) -> None:
    stage.register()
    without = replace(diagnosis.knowledge(stage.settings), applications=None)
    usual = stage.warnings(without)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        if how == "not permitted":
            stage.settings.expiry.graph = False
        elif how == "refused":
            for each in stage.authority.applications.values():
                each.graph_roles = frozenset()
        elif how == "busy":
            stage.authority.graph.busy = 99
        else:
            port = silent.getsockname()[1] if how == "hangs" else 1
            stage.settings.expiry.graph_url = f"https://localhost:{port}"
        known = diagnosis.knowledge(stage.settings)
        if known.applications:
            known.applications._patience = 0.5
        begun = time.monotonic()
        assert stage.warnings(known) == usual
        assert stage.warnings(known) == usual, "and is not asked again at once"
        assert time.monotonic() - begun < 5
    assert stage.authority.graph.asked == []
    assert stage.authority.graph.busy in {0, 98}, "one request, though two findings were made"


def test_a_personal_access_token_asks_nobody(stage: Stage) -> None:
    settings = config.load(
        azure_devops={"url": stage.organisation.url, "token": "played"},
        expiry={"graph": True, "graph_url": stage.authority.url},
    )
    assert diagnosis.knowledge(settings).applications is None


@pytest.mark.parametrize(
    ("of_match", "parameters", "expected"),
    [
        (
            {"verdict": Verdict.REJECTED},
            {},
            "has one client secret, which is valid until 2099-01-01: the connection holds another one.",
        ),
        (
            {"credential": "azure-entra-client-certificate"},
            {"authenticationtype": "spnCertificate"},
            "the connection holds an older one. Nothing has to be created if somebody still has its PEM with",
        ),
        ({"credential": "kubernetes"}, {}, ""),
        ({"verdict": Verdict.MISCONFIGURED}, {}, ""),
    ],
    ids=["rejected", "certificate", "another credential", "misconfigured"],
)
def test_only_a_refused_sign_in_says_which_one_the_connection_holds(
    of_match: dict[str, Any], parameters: dict[str, str], expected: str
) -> None:
    secrets = (
        Secret("password", LAST_YEAR, datetime(2099, 1, 1, tzinfo=UTC)),
        Secret("key", LAST_YEAR, datetime(2099, 6, 1, tzinfo=UTC)),
    )
    connection = findings.connection(parameters=parameters)
    registered = registration.Registration(Application("a", "deploy", secrets))
    told = registration.told(
        connection, findings.match(**of_match), findings.run(finished_at=NOW), registered
    )
    assert (expected in told, bool(told)) == (True, bool(expected))
