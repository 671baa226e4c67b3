"""Findings to decide and act upon, as the worker makes them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from triage.domain import (
    Attribution,
    Confidence,
    Connection,
    Evidence,
    Finding,
    LinkMethod,
    Match,
    Owner,
    OwnerMethod,
    Recipe,
    Run,
    RunRef,
    Task,
    TimelineRecord,
    Verdict,
)

PROJECT = "6f1c2d3e-0000-4000-8000-000000000001"
REPOSITORY = "6f1c2d3e-0000-4000-8000-000000000002"
CONNECTION = "b460b0f8-0000-4000-8000-000000000003"
JOB = "12f1170f-54f2-53f3-20dd-22fc7dff55f9"
STEP = "9c939e41-62c2-5605-5e05-fc3554afc9f5"
PAGE = "http://127.0.0.1:1/contoso/Shop"
SERVICE = "azure-entra-client-secret"


def run(number: int = 41, **changes: Any) -> Run:
    """Return a failed run of the pipeline 'shop-deploy'."""
    values: dict[str, Any] = {
        "ref": RunRef(PROJECT, number),
        "project_id": PROJECT,
        "project_name": "Shop",
        "number": f"20261121.{number}",
        "pipeline_id": 7,
        "pipeline_name": "shop-deploy",
        "pipeline_revision": 3,
        "status": "completed",
        "result": "failed",
        "reason": "individualCI",
        "source_branch": "refs/heads/main",
        "source_version": "0" * 40,
        "url": f"{PAGE}/_build/results?buildId={number}",
        "repository_id": REPOSITORY,
        "repository_type": "TfsGit",
        "repository_name": "Shop",
        "finished_at": datetime(2026, 11, 21, 3, 12, tzinfo=UTC),
    }
    return Run(**{**values, **changes})


def pull_request_run(number: int = 41, **changes: Any) -> Run:
    """Return a failed run of pull request 359."""
    values = {"reason": "pullRequest", "pull_request": 359, "source_branch": "refs/pull/359/merge"}
    return run(number, **{**values, **changes})


def connection(**changes: Any) -> Connection:
    """Return the connection 'prod-arm'."""
    values: dict[str, Any] = {
        "id": CONNECTION,
        "name": "prod-arm",
        "type": "azurerm",
        "scheme": "serviceprincipal",
        "project_id": PROJECT,
        "url": f"{PAGE}/_settings/adminservices?resourceId={CONNECTION}",
    }
    return Connection(**{**values, **changes})


def match(**changes: Any) -> Match:
    """Return a match that is certain of an expired secret."""
    values: dict[str, Any] = {
        "rule": "entra-secret-expired",
        "title": "The client secret of the Entra application has expired",
        "credential": SERVICE,
        "verdict": Verdict.EXPIRED,
        "confidence": Confidence.CERTAIN,
        "line": 214,
        "captures": {},
        "excerpt": "ERROR: AADSTS7000222: The provided client secret keys for app '***' are expired.",
    }
    return Match(**{**values, **changes})


def finding(
    *,
    of_run: Run | None = None,
    of_match: Match | None = None,
    attribution: Attribution | None = None,
    owner: Owner | None = None,
    recipe: Recipe | None = None,
    evidence: Evidence | None = None,
) -> Finding:
    """Return a finding about 'prod-arm', with what is given in its place."""
    record = TimelineRecord(
        id=STEP,
        parent_id=JOB,
        type="Task",
        name="Deploy the shop",
        state="completed",
        result="failed",
        log_id=12,
        task=Task("46e4be58-730b-4389-8a2f-ea10b3e5e815", "AzureCLI", "2.250.1"),
    )
    return Finding(
        run=of_run or run(),
        evidence=evidence or Evidence(of_match or match(), record),
        attribution=attribution
        or Attribution(
            connection(),
            LinkMethod.TASK_INPUT,
            "The failed step names it as its azureSubscription.",
            proven_use=True,
        ),
        owner=owner or Owner("jo@contoso.example", OwnerMethod.MODIFIED_BY, "Last changed it."),
        recipe=recipe
        or Recipe(
            "azurerm-automatic-secret",
            "Let Azure DevOps rotate the secret",
            steps=("Open the connection.", "Choose Edit."),
            warnings=("Do not create a secret in the portal.",),
            alternatives=(("Use federation", ("Choose Convert.",)),),
            permissions=("Administrator of the connection.",),
            verify="Run the pipeline again.",
            interval="three months",
        ),
    )


def undecided(candidates: Any = ()) -> Attribution:
    """Return an attribution that could not decide."""
    return Attribution(None, LinkMethod.UNDECIDED, "Nothing in the run names one.", candidates=candidates)


def named(name: str) -> Finding:
    """Return a finding in which everything that people outside can name is called `name`."""
    told = finding(of_run=replace(run(), pipeline_name=name, number=name, project_name=name))
    record = told.evidence.record
    assert record is not None
    return replace(
        told,
        evidence=replace(told.evidence, match=match(excerpt=name), record=replace(record, name=name)),
        attribution=replace(told.attribution, connection=connection(name=name, type=name), reason=name),
        owner=Owner(name, OwnerMethod.MODIFIED_BY, name),
    )
