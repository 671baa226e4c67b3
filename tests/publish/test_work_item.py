"""One work item for each incident, at the wire of a played Azure DevOps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests import findings
from tests.publish.conftest import POLICY, TAG, Stage
from triage.acts import EndWorkItem, FileWorkItem, ReopenWorkItem, TellClosed, UpdateWorkItem
from triage.domain import Owner, OwnerMethod, RunRef
from triage.errors import RetryLater
from triage.sandbox.organisation import Fault, minutes_ago

if TYPE_CHECKING:
    from triage.domain import Finding

REPRO = "Microsoft.VSTS.TCM.ReproSteps"


def links(item: dict[str, Any]) -> set[tuple[str, str]]:
    return {(relation["rel"], relation["url"]) for relation in item["relations"]}


def owned_by(name: str | None, **more: Any) -> Owner:
    return Owner(name, OwnerMethod.MODIFIED_BY, "Last changed it.", **more)


def another_pipeline(stage: Stage) -> Finding:
    return stage.finding(findings.run(42, pipeline_id=8, pipeline_name="shop-test"))


def later_run(stage: Stage, minutes: float = 0) -> Finding:
    return stage.finding(findings.run(43, finished_at=minutes_ago(minutes)))


def said(stage: Stage, number: int) -> list[str]:
    return [str(comment["text"]) for comment in stage.project.comments.get(number, [])]


def tags(item: dict[str, Any]) -> set[str]:
    return {tag.strip() for tag in item["fields"]["System.Tags"].split(";")}


def test_a_bug_is_filed_with_owner_tags_links_and_markdown(stage: Stage) -> None:
    item = stage.file()
    fields = item["fields"]
    assert fields["System.WorkItemType"] == "Bug"
    assert fields["System.Title"] == "[triage] Credential of service connection 'prod-arm' has expired"
    assert fields["System.AssignedTo"]["uniqueName"] == "jo@contoso.example"
    assert tags(item) == {"triage", "expired-credential", TAG}
    assert item["relations"][0]["attributes"]["name"] == "Found in build"
    assert links(item) == {
        ("ArtifactLink", "vstfs:///Build/Build/41"),
        ("Hyperlink", findings.connection().url),
    }
    assert item["multilineFieldsFormat"] == {REPRO: "markdown"}
    assert "## Renew it" in fields[REPRO]


@pytest.mark.parametrize("process", ["Basic"], indirect=True)
def test_a_process_without_bugs_gets_an_issue_with_a_description(stage: Stage) -> None:
    fields = stage.file()["fields"]
    assert fields["System.WorkItemType"] == "Issue"
    assert "## Renew it" in fields["System.Description"]


def test_the_configured_type_is_filed(stage: Stage) -> None:
    fields = stage.file(policy=replace(POLICY, work_item_type="Task"))["fields"]
    assert fields["System.WorkItemType"] == "Task"
    assert "System.Description" in fields


def test_where_markdown_is_refused_the_item_is_html(stage: Stage) -> None:
    stage.organisation.refuse_markdown = True
    item = stage.file()
    assert not item["multilineFieldsFormat"]
    assert "<h2>Renew it</h2>" in item["fields"][REPRO]
    assert len(stage.project.work_items) == 1


def test_a_refused_assignee_gives_way_to_the_fallback_and_the_text_says_so(stage: Stage) -> None:
    item = stage.file(stage.finding(owner=owned_by("gone@contoso.example")))
    assert item["fields"]["System.AssignedTo"]["uniqueName"] == "team@contoso.example"
    assert "does not accept gone\\@contoso.example as assignee" in item["fields"][REPRO]


def test_with_every_assignee_refused_the_item_is_filed_all_the_same(stage: Stage) -> None:
    nobody = replace(POLICY, default_assignee="unknown@contoso.example")
    item = stage.file(stage.finding(owner=owned_by("gone@contoso.example")), policy=nobody)
    assert "System.AssignedTo" not in item["fields"]
    assert "nobody is assigned" in item["fields"][REPRO]


def test_a_refused_assignee_area_and_markdown_together_still_file_one_item(stage: Stage) -> None:
    stage.organisation.refuse_markdown = True
    item = stage.file(stage.finding(owner=owned_by("gone@contoso.example", area="Shop\\Gone")))
    assert item["fields"]["System.AreaPath"] == "Shop"
    assert "The area Shop\\Gone does not exist" in item["fields"][REPRO]
    assert "does not accept gone@contoso.example as assignee" in item["fields"][REPRO]
    assert len(stage.project.work_items) == 1


def test_a_known_area_is_kept(stage: Stage) -> None:
    stage.project.areas.add("Shop\\Platform")
    item = stage.file(stage.finding(owner=owned_by(None, area="Shop\\Platform")))
    assert item["fields"]["System.AreaPath"] == "Shop\\Platform"


def test_a_lost_reply_does_not_double_the_item(stage: Stage) -> None:
    stage.organisation.faults.append(Fault("POST", r"/wit/workitems/\$", lose_reply=True))
    with pytest.raises(RetryLater):
        stage.file()
    assert len(stage.project.work_items) == 1
    stage.file(attempts=2)
    assert len(stage.project.work_items) == 1


def test_an_attempt_in_doubt_waits_for_the_search_to_know(stage: Stage) -> None:
    first = stage.file()
    stage.organisation.search_lag_seconds = 0.4
    again = stage.file(attempts=2, policy=replace(POLICY, settle_seconds=0.6))
    assert again["id"] == first["id"]


def test_of_two_items_of_one_incident_the_older_is_kept_and_the_other_named(stage: Stage) -> None:
    first = stage.file()
    stage.organisation.search_lag_seconds = 60
    second = stage.file()
    stage.organisation.search_lag_seconds = 0
    outcome = stage.do(stage_action(stage), attempts=2)
    assert outcome.remote_id == str(min(first["id"], second["id"]))
    assert str(max(first["id"], second["id"])) in outcome.detail


def test_an_adopted_item_hears_of_the_run_that_found_it(stage: Stage) -> None:
    stage.file()
    item = stage.file(another_pipeline(stage))
    assert len(stage.project.work_items) == 1
    assert ("ArtifactLink", "vstfs:///Build/Build/42") in links(item)


def test_an_incident_that_comes_again_after_its_item_was_closed_gets_a_new_one(stage: Stage) -> None:
    stage.file()["fields"]["System.State"] = "Closed"
    stage.file()
    assert len(stage.project.work_items) == 2


def test_another_pipelines_run_is_linked_with_one_comment_and_nothing_is_overwritten(stage: Stage) -> None:
    item = stage.file()
    by_hand = {
        "System.Title": "My own title",
        "System.State": "Active",
        REPRO: "My notes",
        "System.AssignedTo": {"uniqueName": "team@contoso.example"},
    }
    item["fields"].update(by_hand)
    stage.do(further(stage, item["id"]))
    item = stage.project.work_items[item["id"]]
    assert ("ArtifactLink", "vstfs:///Build/Build/42") in links(item)
    assert {name: item["fields"][name] for name in by_hand} == by_hand
    assert item["rev"] == 2
    (comment,) = said(stage, item["id"])
    assert "12 runs" in comment
    assert "shop-test" in comment
    patch = stage.writes("/wit/workitems/")[-1]["body"]
    assert patch[0] == {"op": "test", "path": "/rev", "value": 1}


def test_linking_a_run_twice_is_linking_it_once(stage: Stage) -> None:
    item = stage.file()
    for _ in range(3):
        stage.do(further(stage, item["id"]), attempts=2)
    assert stage.project.work_items[item["id"]]["rev"] == 2


def test_an_edit_in_between_is_looked_at_before_writing_again(stage: Stage) -> None:
    item = stage.file()
    conflict = b'{"message": "VS403351: Test Operation for path /rev failed."}'
    stage.organisation.faults.append(
        Fault(
            "PATCH",
            "/wit/workitems/",
            status=412,
            body=conflict,
            headers={"Content-Type": "application/json"},
        )
    )
    assert "told" in stage.do(further(stage, item["id"])).detail


def test_an_item_that_somebody_deleted_is_left_alone(stage: Stage) -> None:
    assert "gone" in stage.do(further(stage, 999)).detail
    assert "gone" in stage.do(closed(stage, 999)).detail


def test_an_open_item_hears_nothing_of_further_runs(stage: Stage) -> None:
    item = stage.file()
    stage.do(closed(stage, item["id"]))
    assert stage.project.work_items[item["id"]]["rev"] == 1


def test_an_item_closed_while_runs_go_on_failing_is_told_so_once(stage: Stage) -> None:
    number = stage.file()["id"]
    stage.project.work_items[number]["fields"]["System.State"] = "Closed"
    stage.project.work_items[number]["fields"]["System.ChangedDate"] = "2026-01-01T00:00:00.1234567Z"
    for _ in range(3):
        stage.do(closed(stage, number))
    item = stage.project.work_items[number]
    assert item["rev"] == 2
    assert item["fields"]["System.State"] == "Closed"
    (comment,) = said(stage, number)
    assert "still breaks runs" in comment
    assert tags(item) > {"triage", "expired-credential", TAG}


def test_a_run_that_failed_before_the_item_was_closed_says_nothing(stage: Stage) -> None:
    number = stage.file()["id"]
    stage.project.work_items[number]["fields"]["System.State"] = "Closed"
    stage.do(closed(stage, number, minutes=30))
    assert stage.project.work_items[number]["rev"] == 1


def test_hostile_names_reach_the_work_item_as_text(stage: Stage) -> None:
    hostile = findings.named("</pre>`` @<eve> [x](https://evil.example) ##vso[x]")
    finding = replace(hostile, owner=owned_by("jo@contoso.example"))
    text = stage.file(finding)["fields"][REPRO]
    assert "[x](https://evil.example)" not in text.split("## Evidence")[0]
    assert "##vso[" not in text


def test_no_type_to_file_names_those_there_are(stage: Stage) -> None:
    answers = {
        "/workitemtypes$": b'{"count": 1, "value": [{"name": "Epic", "fields": []}]}',
        "/workitemtypecategories/": b'{"message": "VS402805: no such category."}',
    }
    for path, body in answers.items():
        status = 404 if b"VS402805" in body else 200
        stage.organisation.faults.append(
            Fault("GET", path, status=status, body=body, headers={"Content-Type": "application/json"})
        )
    with pytest.raises(RetryLater, match=r"policy\.work_item_type to one of Epic"):
        stage.file()


def test_a_relation_that_somebody_added_in_between_is_fine(stage: Stage) -> None:
    item = stage.file()
    body = b'{"message": "Relation already exists: ArtifactLink vstfs:///Build/Build/42."}'
    stage.organisation.faults.append(
        Fault("PATCH", "/wit/workitems/", status=400, body=body, headers={"Content-Type": "application/json"})
    )
    assert "knew the run" in stage.do(further(stage, item["id"])).detail


@pytest.mark.parametrize("someone", [{"uniqueName": "kim@contoso.example"}, None], ids=["another", "nobody"])
def test_whoever_a_person_gave_it_to_keeps_it_whatever_comes(
    stage: Stage, someone: dict[str, str] | None
) -> None:
    number = stage.file()["id"]
    fields = stage.project.work_items[number]["fields"]
    fields["System.AssignedTo"] = someone
    run = later_run(stage).run
    stage.do(further(stage, number))
    stage.do(EndWorkItem(findings.PROJECT, number, "Run 44 used it and succeeded."))
    fields["System.State"], fields["System.ChangedDate"] = "Closed", "2026-01-01T00:00:00.1234567Z"
    stage.do(closed(stage, number))
    stage.do(ReopenWorkItem(run, findings.PROJECT, number, "2026-11-21"))
    item = stage.project.work_items[number]
    assert item["rev"] > 3, "the acts have written to it"
    assert item["fields"]["System.AssignedTo"] == someone
    patches = [entry for entry in stage.writes("/wit/workitems/") if entry["method"] == "PATCH"]
    assert patches
    assert "System.AssignedTo" not in str([entry["body"] for entry in patches])


def test_one_line_each_says_why_this_connection_and_why_this_owner(stage: Stage) -> None:
    text = stage.file()["fields"][REPRO]
    why = [line for line in text.splitlines() if line.startswith("- **Why ")]
    assert why == [
        "- **Why this connection:** The failed step names it as its azureSubscription.",
        "- **Why jo\\@contoso.example:** Last changed it.",
    ]


def test_a_release_is_linked_by_its_page(stage: Stage) -> None:
    page = "http://127.0.0.1:1/contoso/Shop/_releaseProgress?_a=release-environment-logs&releaseId=4&environmentId=5"
    ref = RunRef(findings.PROJECT, 4, "release", 5)
    release = replace(findings.run(), ref=ref, url=page, number="Release-4 in Production")
    item = stage.file(findings.finding(of_run=release))
    assert ("Hyperlink", page) in links(item)
    assert not any(kind == "ArtifactLink" for kind, _ in links(item))
    assert f"line 214 of its log]({page})" in item["fields"][REPRO]


def further(stage: Stage, number: int) -> UpdateWorkItem:
    runs = (another_pipeline(stage).run,)
    return UpdateWorkItem(runs, 0, 12, findings.PROJECT, number, "http://127.0.0.1:8080/incidents/5")


def closed(stage: Stage, number: int, **keywords: Any) -> TellClosed:
    return TellClosed(later_run(stage, **keywords).run, findings.PROJECT, number)


def stage_action(stage: Stage) -> FileWorkItem:
    return FileWorkItem(stage.finding(), "[triage] It has expired", TAG, "http://127.0.0.1:8080/incidents/5")
