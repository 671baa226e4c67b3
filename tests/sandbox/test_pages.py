"""The played organisation's pages: what a person sees at Azure DevOps' addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from triage.sandbox import pages, stories
from triage.sandbox.organisation import Organisation, Project

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTILE = "**Look** <script>alert(1)</script>\n\n1. first\n2. second"


@pytest.fixture
def organisation() -> Organisation:
    return Organisation("contoso")


@pytest.fixture
def browser(organisation: Organisation) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(pages.router(organisation))
    with TestClient(app) as client:
        yield client


def played(organisation: Organisation, name: str) -> tuple[Project, int]:
    story = next(each for each in stories.load() if each.name == name)
    organisation.url = "http://127.0.0.1:9/contoso"
    story.set_up(organisation)
    numbers = story.play(organisation, lambda _: None)
    return organisation.projects[story.project_id], numbers[0]


def work_item(project: Project, run: int, **more: Any) -> None:
    project.work_items[900] = {
        "id": 900,
        "rev": 1,
        "fields": {
            "System.WorkItemType": "Bug",
            "System.Title": "Renew the credential",
            "System.State": "New",
            "System.Tags": "expired-credential; triage-0123",
            "System.AssignedTo": {
                "displayName": "Platform Engineer",
                "uniqueName": "platform.engineer@contoso.example",
            },
            "System.Description": HOSTILE,
        },
        "relations": [{"rel": "ArtifactLink", "url": f"vstfs:///Build/Build/{run}"}],
        "multilineFieldsFormat": {"System.Description": "markdown"},
        **more,
    }


def test_the_start_page_lists_runs_work_items_pull_requests_and_the_ledger(
    organisation: Organisation, browser: TestClient
) -> None:
    project, run = played(organisation, "pull-request")
    work_item(project, run)
    text = browser.get("/contoso").text
    assert f"/contoso/Checkout/_build/results?buildId={run}" in text
    assert "/contoso/Checkout/_workitems/edit/900" in text
    assert "/contoso/Checkout/_git/Checkout/pullrequest/359" in text
    assert "/_ledger" in text


def test_a_run_page_shows_tags_errors_steps_and_the_failed_step_s_log(
    organisation: Organisation, browser: TestClient
) -> None:
    project, run = played(organisation, "acr-automatic-connection")
    project.build_tags[run] = ["expired-credential"]
    work_item(project, run)
    text = browser.get(f"/contoso/Webshop/_build/results?buildId={run}").text
    assert "expired-credential" in text
    assert "unauthorized: Invalid clientid or client secret." in text
    assert "Build and push the image" in text
    assert 'id="l431"' in text
    assert "/contoso/Webshop/_workitems/edit/900" in text


def test_a_run_is_found_by_its_project_s_id_too(organisation: Organisation, browser: TestClient) -> None:
    project, run = played(organisation, "green-run")
    assert browser.get(f"/contoso/{project.id}/_build/results?buildId={run}").status_code == 200


def test_a_line_asked_for_is_marked(organisation: Organisation, browser: TestClient) -> None:
    project, run = played(organisation, "acr-automatic-connection")
    failed = next(
        r
        for r in project.timelines[run][project.current_timeline[run]]["records"]
        if r["type"] == "Task" and r["result"] == "failed"
    )
    address = f"/contoso/Webshop/_build/results?buildId={run}&view=logs&j={failed['parentId']}&t={failed['id']}&l=431"
    assert '<li id="l431" class="error marked">' in browser.get(address).text


@pytest.mark.parametrize("name", [each.name for each in stories.load()])
def test_every_story_s_run_page_opens(organisation: Organisation, browser: TestClient, name: str) -> None:
    project, run = played(organisation, name)
    page = f"_releaseProgress?releaseId={run}" if project.releases else f"_build/results?buildId={run}"
    assert browser.get(f"/contoso/{project.name}/{page}").status_code == 200


def test_a_work_item_s_markdown_is_rendered_and_its_html_stays_text(
    organisation: Organisation, browser: TestClient
) -> None:
    work_item(*played(organisation, "green-run"))
    answer = browser.get("/contoso/Newsletter/_workitems/edit/900")
    assert "<strong>Look</strong>" in answer.text
    assert "<li>second</li>" in answer.text
    assert "<script>" not in answer.text
    assert "Platform Engineer" in answer.text


def test_a_work_item_s_html_is_shown_under_a_policy_that_lets_nothing_run(
    organisation: Organisation, browser: TestClient
) -> None:
    work_item(*played(organisation, "green-run"), multilineFieldsFormat={})
    answer = browser.get("/contoso/Newsletter/_workitems/edit/900")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
    assert "script-src" not in answer.headers["content-security-policy"]


def test_a_pull_request_shows_its_threads_rendered(organisation: Organisation, browser: TestClient) -> None:
    project, _ = played(organisation, "pull-request")
    comment = {"id": 1, "content": HOSTILE, "author": {"displayName": "triage"}}
    project.threads[next(iter(project.pull_requests))] = [
        {"id": 7, "status": "closed", "publishedDate": "2026-11-21T03:00:00Z", "comments": [comment]}
    ]
    text = browser.get("/contoso/Checkout/_git/Checkout/pullrequest/359").text
    assert "<strong>Look</strong>" in text
    assert "<script>" not in text
    assert "closed" in text


def test_a_connection_s_page_is_where_tasks_link_to(organisation: Organisation, browser: TestClient) -> None:
    project, _ = played(organisation, "arm-link-in-message")
    connection = next(each for each in project.endpoints.values() if each["name"] == "loyalty-prod")
    text = browser.get(f"/contoso/Loyalty/_settings/adminservices?resourceId={connection['id']}").text
    assert "<h1>loyalty-prod</h1>" in text
    assert "Platform Engineer" in text


@pytest.mark.parametrize(
    "address",
    [
        "/contoso/Nowhere/_workitems/edit/1",
        "/contoso/Newsletter/_workitems/edit/1",
        "/contoso/Newsletter/_build/results?buildId=1",
        "/contoso/Newsletter/_git/Newsletter/pullrequest/1",
        "/contoso/Newsletter/_settings/adminservices?resourceId=1",
        "/fabrikam",
    ],
)
def test_what_is_not_there_is_a_404(organisation: Organisation, browser: TestClient, address: str) -> None:
    played(organisation, "green-run")
    assert browser.get(address).status_code == 404
