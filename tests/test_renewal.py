"""The renewal steps fit the connection: its type, scheme, creation mode and the verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests import findings
from triage import match, renewal
from triage.domain import Connection, Recipe, Task, TimelineRecord, Verdict
from triage.errors import RulePackError

if TYPE_CHECKING:
    from pathlib import Path

BOOK = renewal.load()
ORGANIZATION = "https://dev.azure.com/contoso"
FILE_COPY = Task("eb72cb01-a7e5-427b-a8a1-1b31ccac8a43", "AzureFileCopy", "5.1.0")


def connection(kind: str, scheme: str, creation: str = "", authentication: str = "") -> Connection:
    parameters = {"serviceprincipalid": "app-1", "loginserver": "crshop.azurecr.io"}
    if authentication:
        parameters["authenticationtype"] = authentication
    return findings.connection(
        type=kind, scheme=scheme, parameters=parameters, data={"creationmode": creation} if creation else {}
    )


def choose(
    of: Connection | None,
    *,
    task: Task | None = None,
    verdict: Verdict = Verdict.EXPIRED,
    credential: str = findings.SERVICE,
    advice: str = "",
) -> Recipe:
    record = TimelineRecord("r", None, "Task", "Copy", "completed", "failed", task=task)
    told = findings.match(verdict=verdict, credential=credential, advice=advice)
    return renewal.choose(BOOK, of, told, findings.run(), record, ORGANIZATION)


@pytest.mark.parametrize(
    ("kind", "scheme", "creation", "authentication", "expected"),
    [
        ("azurerm", "serviceprincipal", "Automatic", "spnKey", "azurerm-automatic-secret"),
        ("azurerm", "serviceprincipal", "Automatic", "", "azurerm-automatic-secret"),
        ("azurerm", "serviceprincipal", "Manual", "spnKey", "azurerm-manual-secret"),
        ("azurerm", "serviceprincipal", "Manual", "spnCertificate", "azurerm-certificate"),
        ("azurerm", "workloadidentityfederation", "Automatic", "", "azurerm-federation-mismatch"),
        ("azurerm", "managedserviceidentity", "", "", "azurerm-managed-identity"),
        ("dockerregistry", "serviceprincipal", "Automatic", "", "acr-automatic"),
        ("dockerregistry", "serviceprincipal", "Manual", "", "acr-manual"),
        ("dockerregistry", "usernamepassword", "", "", "docker-registry-password"),
        ("kubernetes", "kubernetes", "", "", "kubernetes-kubeconfig"),
        ("github", "token", "", "", "github-token"),
        ("externaltfs", "token", "", "", "azure-devops-token"),
        ("externalnpmregistry", "token", "", "", "azure-devops-token"),
        ("ssh", "usernamepassword", "", "", "ssh-key"),
        ("sonarqube", "usernamepassword", "", "", "sonar-token"),
        ("aws", "usernamepassword", "", "", "aws-access-key"),
        ("googlecloudserviceendpoint", "jwt", "", "", "gcp-service-account-key"),
        ("something-new", "token", "", "", "any-connection"),
    ],
)
def test_each_kind_of_connection_has_its_recipe(
    kind: str, scheme: str, creation: str, authentication: str, expected: str
) -> None:
    assert choose(connection(kind, scheme, creation, authentication)).id == expected


def test_an_unknown_connection_is_looked_for_first() -> None:
    assert choose(None).id == "unknown-connection"


def test_a_deleted_application_has_no_secret_to_renew() -> None:
    of = connection("azurerm", "serviceprincipal", "Automatic", "spnKey")
    assert choose(of, verdict=Verdict.MISSING, credential="azure-entra-app").id == "azurerm-app-deleted"


def test_a_message_can_ask_for_its_own_recipe() -> None:
    of = connection("azurerm", "serviceprincipal", "Automatic", "spnKey")
    assert choose(of, advice="setup-guest-permission").id == "setup-guest-permission"


def test_a_task_that_cannot_federate_is_told_which_version_can() -> None:
    of = connection("azurerm", "serviceprincipal", "Automatic", "spnKey")
    recipe = choose(of, task=FILE_COPY)
    assert recipe.id == "azurerm-automatic-secret-old-task"
    assert any("AzureFileCopy\\@6" in title or "AzureFileCopy@6" in title for title, _ in recipe.alternatives)
    assert any("az storage blob upload" in step for _, steps in recipe.alternatives for step in steps)


def test_an_automatic_connection_is_not_to_be_renewed_in_the_portal() -> None:
    recipe = choose(connection("azurerm", "serviceprincipal", "Automatic", "spnKey"))
    assert "Do not create a secret in the Azure portal" in recipe.warnings[0]
    assert recipe.interval == "three months"
    assert any("without *Verify*" in step for step in recipe.steps)


def test_no_placeholder_is_left_in_any_recipe() -> None:
    for book in BOOK.recipes:
        for of in (None, connection("azurerm", "serviceprincipal", "Manual")):
            single = renewal.RecipeBook((book.model_copy(update={"applies": renewal.Applies()}),))
            told = renewal.choose(single, of, findings.match(), findings.run(), None, ORGANIZATION)
            texts = [told.title, told.verify, *told.steps, *told.warnings]
            texts += [text for title, steps in told.alternatives for text in (title, *steps)]
            assert not [text for text in texts if "{" in text], book.id


def test_hostile_names_stay_text() -> None:
    of = replace(
        connection("azurerm", "serviceprincipal", "Manual", "spnKey"), name="x](https://evil.example)"
    )
    assert "](https://evil.example)" not in choose(of).title


def test_each_rule_that_asks_for_a_recipe_names_one() -> None:
    known = {recipe.id for recipe in BOOK.recipes}
    assert {rule.advice for rule in match.load_pack().rules if rule.advice} <= known


def test_every_mistake_in_a_recipe_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "renewal"
    folder.mkdir()
    (folder / "one.toml").write_text(
        'id = "two"\ntitle = "{nobody}"\n[renewal]\nsteps = ["go"]\n[meta]\nreferences = ["https://x.example"]\n'
    )
    (folder / "three.toml").write_text('id = "three"\n')
    with pytest.raises(RulePackError) as told:
        renewal.load(tmp_path)
    text = str(told.value)
    assert "renewal/one.toml: id: is 'two'" in text
    assert "renewal/one.toml: there is no placeholder {nobody}" in text
    assert "renewal/three.toml: title:" in text
