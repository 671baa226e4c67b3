"""Which connection a step used: best evidence first, and never on a log's word alone."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from tests import findings
from triage import azdo, link
from triage.domain import Evidence, LinkMethod, RunRef, Task, TimelineRecord
from triage.link import definition, task_inputs
from triage.sandbox import tokens
from triage.sandbox.organisation import Fault, Organisation, Project
from triage.sandbox.server import serve
from triage.sandbox.tokens import Token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triage.domain import Attribution, Match

AZURE_CLI = Task("46e4be58-730b-4389-8a2f-ea10b3e5e815", "AzureCLI", "2.250.1")
DOCKER = Task("e28912f1-0114-4464-802a-a3a35437fd16", "Docker", "2.240.0")
BASH = Task("6c731c3c-3c68-459a-a5c9-bde6e6595b5b", "Bash", "3.237.1")
CHECKOUT = Task("6d15af64-176c-496d-b583-fd2ae21d4df4", "Checkout", "1.0.0")
YAML = """
variables:
- name: deployTo
  value: prod-arm
stages:
- stage: Deploy
  variables:
    registry: CrShop
  jobs:
  - deployment: Web
    strategy:
      runOnce:
        deploy:
          steps:
          - task: AzureCLI@2
            name: first
            displayName: Deploy the web
            inputs:
              azureSubscription: PROD-ARM
          - task: AzureCLI@2
            name: second
            displayName: Deploy the queue
            inputs:
              connectedServiceNameARM: test-arm
          - task: AzureCLI@2
            displayName: By variable
            inputs:
              azureSubscription: $(deployTo)
          - task: Docker@2
            displayName: Push
            inputs:
              containerRegistry: $(registry)
          - task: Bash@3
            displayName: Script
"""


@dataclass
class Stage:
    door: azdo.Door
    project: Project
    organisation: Organisation

    def attribute(self, match: Match, record: TimelineRecord | None, **changes: Any) -> Attribution:
        run = replace(findings.run(), ref=RunRef(self.project.id, 42), project_id=self.project.id, **changes)
        ((_, found),) = link.attribute(self.door, run, [Evidence(match, record)])
        return found

    def used(self, name: str) -> None:
        """Let the execution history say that run 42 used a connection."""
        entry = {"id": 1, "planType": "Build", "owner": {"id": 42, "name": "x"}, "result": "failed"}
        self.project.uses[connection_id(name)] = [entry]


def connection_id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def add(project: Project, name: str, kind: str, **parameters: str) -> None:
    project.endpoints[connection_id(name)] = {
        "id": connection_id(name),
        "name": name,
        "type": kind,
        "url": "https://management.azure.com/",
        "authorization": {"scheme": "ServicePrincipal", "parameters": parameters},
        "data": {"creationMode": "Manual"},
        "isReady": True,
    }


@pytest.fixture
def stage() -> Iterator[Stage]:
    organisation = Organisation("contoso")
    project = organisation.add_project("Shop")
    for name in ("prod-arm", "test-arm"):
        add(project, name, "azurerm", tenantid=connection_id(f"tenant of {name}"))
    add(project, "crshop", "dockerregistry", loginServer="crshop.azurecr.io")
    project.builds[42] = {"id": 42}
    project.logs[42] = {1: YAML.encode()}
    with serve(organisation, token="t") as played:
        yield Stage(azdo.connect(played.url, "t"), project, organisation)


def step(task: Task, name: str, identifier: str = "") -> TimelineRecord:
    return TimelineRecord("r", None, "Task", name, "completed", "failed", task=task, identifier=identifier)


def match(*types: str, excerpt: str = "AADSTS7000222: expired", **captures: str) -> Match:
    return replace(
        findings.match(), connection_types=types or ("azurerm",), excerpt=excerpt, captures=captures
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Deploy the web", "prod-arm"), ("Deploy the queue", "test-arm"), ("By variable", "prod-arm")],
)
def test_the_failed_tasks_own_input_names_it(stage: Stage, name: str, expected: str) -> None:
    found = stage.attribute(match(), step(AZURE_CLI, name))
    assert found.connection is not None
    assert (found.connection.name, found.method, found.proven_use) == (expected, LinkMethod.TASK_INPUT, True)


def test_a_steps_reference_name_tells_equal_tasks_apart(stage: Stage) -> None:
    found = stage.attribute(match(), step(AZURE_CLI, "renamed", "Deploy.Web.Web.second"))
    assert found.connection is not None
    assert found.connection.name == "test-arm"


def test_steps_that_cannot_be_told_apart_leave_it_undecided(stage: Stage) -> None:
    found = stage.attribute(match(), step(AZURE_CLI, "renamed"))
    assert found.connection is None
    assert {c.connection.name for c in found.candidates} == {"prod-arm", "test-arm"}


def test_another_major_of_the_task_is_another_step(stage: Stage) -> None:
    other = Task(AZURE_CLI.id, "AzureCLI", "1.2.3")
    assert stage.attribute(match(), step(other, "Deploy the web")).method is not LinkMethod.TASK_INPUT


def test_a_connection_that_is_gone_is_not_replaced_by_another(stage: Stage) -> None:
    del stage.project.endpoints[connection_id("crshop")]
    add(stage.project, "crother", "dockerregistry")
    found = stage.attribute(match("dockerregistry"), step(DOCKER, "Push"))
    assert found.connection is None
    assert "CrShop" in found.reason


def test_a_step_whose_connection_is_of_another_kind_is_not_blamed(stage: Stage) -> None:
    found = stage.attribute(match("github"), step(AZURE_CLI, "Deploy the web"))
    assert found.connection is None
    assert [c.connection.name for c in found.candidates] == ["prod-arm"]


def test_a_variable_of_the_stage_and_names_in_any_case_are_understood(stage: Stage) -> None:
    found = stage.attribute(match("dockerregistry"), step(DOCKER, "Push"))
    assert found.connection is not None
    assert found.connection.name == "crshop"


def test_a_guid_in_the_message_counts_with_the_tasks_input(stage: Stage) -> None:
    told = match(connection_id=connection_id("prod-arm"))
    found = stage.attribute(told, step(AZURE_CLI, "Deploy the web"))
    assert found.method is LinkMethod.MESSAGE
    assert found.proven_use


def test_the_tasks_input_wins_over_another_guid_in_the_message(stage: Stage) -> None:
    told = match(connection_id=connection_id("test-arm"))
    found = stage.attribute(told, step(AZURE_CLI, "Deploy the web"))
    assert found.connection is not None
    assert found.connection.name == "prod-arm"
    assert "test-arm" in found.reason


def test_a_guid_that_a_script_prints_is_not_believed(stage: Stage) -> None:
    told = match(connection_id=connection_id("prod-arm"))
    found = stage.attribute(told, step(BASH, "Script"))
    assert found.connection is None
    assert not found.proven_use


def test_a_guid_that_a_script_prints_is_not_turned_into_another_connection(stage: Stage) -> None:
    stage.used("test-arm")
    found = stage.attribute(match(connection_id=connection_id("prod-arm")), step(BASH, "Script"))
    assert found.connection is None
    assert "prod-arm" in found.reason


def test_a_guid_that_a_script_prints_counts_when_the_run_used_the_connection(stage: Stage) -> None:
    stage.used("prod-arm")
    found = stage.attribute(match(connection_id=connection_id("prod-arm")), step(BASH, "Script"))
    assert found.connection is not None
    assert found.proven_use


def test_a_guid_of_no_connection_is_nothing(stage: Stage) -> None:
    found = stage.attribute(match(connection_id=str(uuid.uuid4())), step(BASH, "Script"))
    assert found.connection is None


def test_the_execution_history_decides_between_two(stage: Stage) -> None:
    del stage.project.logs[42]
    stage.used("test-arm")
    found = stage.attribute(match(), step(AZURE_CLI, "Put in by an extension"))
    assert found.connection is not None
    assert (found.connection.name, found.method) == ("test-arm", LinkMethod.EXECUTION_HISTORY)


def test_the_history_proves_nothing_of_a_step_when_another_step_names_the_connection(stage: Stage) -> None:
    stage.used("test-arm")
    found = stage.attribute(match(), step(AZURE_CLI, "Put in by an extension"))
    assert found.connection is None
    assert [c.connection.name for c in found.candidates] == ["test-arm"]


def test_a_script_is_not_blamed_on_what_other_steps_used(stage: Stage) -> None:
    stage.used("test-arm")
    found = stage.attribute(match(), step(BASH, "Script"))
    assert found.connection is None
    assert [c.reason for c in found.candidates] == ["this run used it"]


def test_two_in_the_history_are_candidates(stage: Stage) -> None:
    for name in ("prod-arm", "test-arm"):
        stage.used(name)
    found = stage.attribute(match(), step(BASH, "Script"))
    assert found.connection is None
    assert len(found.candidates) == 2


def test_a_tenant_in_the_message_tells_two_apart(stage: Stage) -> None:
    tenant = connection_id("tenant of test-arm")
    told = match(excerpt=f"AADSTS7000222 in tenant {tenant}")
    found = stage.attribute(told, step(AZURE_CLI, "Put in by an extension"))
    assert found.connection is not None
    assert (found.connection.name, found.method) == ("test-arm", LinkMethod.IDENTIFIER)
    assert not found.proven_use


def test_a_tenant_is_no_proof_of_what_a_script_used(stage: Stage) -> None:
    tenant = connection_id("tenant of test-arm")
    told = match(excerpt=f"AADSTS7000222 in tenant {tenant}")
    assert stage.attribute(told, step(BASH, "Script")).connection is None


def test_the_only_registry_of_a_project_is_taken_for_a_task_that_names_none(stage: Stage) -> None:
    unknown = Task(str(uuid.uuid4()), "PushWithStyle", "1.0.0")
    found = stage.attribute(match("dockerregistry"), step(unknown, "Push"))
    assert found.connection is not None
    assert found.method is LinkMethod.ONLY_CANDIDATE


def test_a_script_may_use_a_secret_of_its_own(stage: Stage) -> None:
    found = stage.attribute(match("dockerregistry"), step(BASH, "Script"))
    assert found.connection is None
    assert [c.connection.name for c in found.candidates] == ["crshop"]
    assert "script" in found.reason


def test_a_designer_pipelines_inputs_hold_ids(stage: Stage) -> None:
    del stage.project.logs[42]
    inputs = {"connectedServiceNameARM": connection_id("test-arm")}
    steps = [{"task": {"id": AZURE_CLI.id, "versionSpec": "2.*"}, "inputs": inputs, "displayName": "Deploy"}]
    stage.project.definitions[7] = {
        1: {"id": 7, "revision": 1, "process": {"type": 1, "phases": [{"name": "Job", "steps": steps}]}}
    }
    found = stage.attribute(match(), step(AZURE_CLI, "Deploy"), pipeline_id=7, pipeline_revision=1)
    assert found.connection is not None
    assert found.connection.name == "test-arm"


def test_a_checkout_uses_what_the_resources_name(stage: Stage) -> None:
    add(stage.project, "github-shop", "github")
    stage.project.logs[42] = {
        1: b"resources:\n  repositories:\n  - repository: lib\n    endpoint: github-shop\n"
    }
    found = stage.attribute(match("github"), step(CHECKOUT, "Checkout contoso/lib"))
    assert found.connection is not None
    assert found.connection.name == "github-shop"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just text",
        "[1, 2]",
        "a: [",
        "a: &x 1\nb: *x\n",
        "\t\x00",
        "steps:\n- task: 7\n- 8\n",
        "a: " + "[" * 500,
    ],
)
def test_yaml_that_is_no_pipeline_has_no_steps(text: str) -> None:
    assert definition.from_yaml(text) == []


def test_an_alias_bomb_is_refused_at_once() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{n}: &{n} [*{chr(ord(n) - 1)}, *{chr(ord(n) - 1)}]\n" for n in "bcdefgh"
    )
    assert definition.from_yaml(bomb) == []


def test_a_list_of_connections_is_taken_apart_only_where_the_task_takes_a_list() -> None:
    npm = Task("ad884ca2-732e-4b85-b2d3-ed71bcbd2788", "npmAuthenticate", "0.1.0")
    assert any(each.multi for each in task_inputs.inputs(npm))
    assert not any(each.multi for each in task_inputs.inputs(AZURE_CLI))


KUBERNETES = Task("cbc316a2-586f-4def-be79-488a1f503564", "Kubernetes", "1.240.0")
IN_ENVIRONMENT = b"""
jobs:
- deployment: Web
  environment: prod.web
  strategy: { runOnce: { deploy: { steps: [ { task: Kubernetes@1, displayName: Apply } ] } } }
"""


@pytest.mark.parametrize(
    ("refused", "says"),
    [
        ("", "is given it by its job's environment prod.web."),
        ("environments?", "the environment prod.web, which is gone, or which triage may not see"),
        ("environments/1?", "the environment prod.web, whose resource is gone"),
        (
            "providers/kubernetes/11?",
            "the environment prod.web, whose connection triage may not see (Reader of the environment).",
        ),
    ],
)
def test_an_environment_that_may_not_be_seen_leaves_the_connection_undecided(
    stage: Stage, refused: str, says: str
) -> None:
    add(stage.project, "aks-web", "kubernetes")
    stage.project.logs[42] = {1: IN_ENVIRONMENT}
    resource = {"id": 11, "name": "web", "type": "kubernetes", "serviceEndpointId": connection_id("aks-web")}
    stage.project.environments[1] = {"id": 1, "name": "prod", "resources": [resource]}
    if refused:
        body = b'{"message": "Access denied: you need Reader on the environment."}'
        headers = {"Content-Type": "application/json"}
        path = refused.replace("?", "$")
        stage.organisation.faults.append(Fault("GET", path, times=9, status=403, body=body, headers=headers))
    found = stage.attribute(match("kubernetes"), step(KUBERNETES, "Apply"))
    assert (found.connection.name if found.connection else "") == ("" if refused else "aks-web")
    assert says in found.reason
    assert [c.connection.name for c in found.candidates] == (["aks-web"] if refused else [])


def test_a_token_without_the_scope_of_environments_leaves_the_connection_undecided(stage: Stage) -> None:
    add(stage.project, "aks-web", "kubernetes")
    stage.project.logs[42] = {1: IN_ENVIRONMENT}
    stage.organisation.tokens["t"] = Token(scopes=tokens.ENOUGH)
    found = stage.attribute(match("kubernetes"), step(KUBERNETES, "Apply"))
    assert found.connection is None
    assert "prod.web" in found.reason


def test_the_second_step_that_it_can_be_asks_nothing_anew_of_the_environment(stage: Stage) -> None:
    add(stage.project, "aks-web", "kubernetes")
    stage.project.logs[42] = {
        1: b"""
variables:
- group: places
jobs:
- deployment: Web
  environment: prod.$(resource)
  strategy:
    runOnce:
      preDeploy: { steps: [ { task: Kubernetes@1, displayName: Apply } ] }
      deploy: { steps: [ { task: Kubernetes@1, displayName: Apply } ] }
"""
    }
    stage.project.variable_groups[3] = {
        "id": 3,
        "name": "places",
        "variables": {"resource": {"value": "web"}},
    }
    resource = {"id": 11, "name": "web", "type": "kubernetes", "serviceEndpointId": connection_id("aks-web")}
    stage.project.environments[1] = {"id": 1, "name": "prod", "resources": [resource]}
    found = stage.attribute(match("kubernetes"), step(KUBERNETES, "Apply"))
    assert found.connection is not None, found.reason
    assert found.connection.name == "aks-web"
