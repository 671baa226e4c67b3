"""Scenarios: what a file may say, and what the played organisation then holds."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from triage import match
from triage.domain import LinkMethod, Verdict
from triage.sandbox import scenario, stories
from triage.sandbox.organisation import Organisation

if TYPE_CHECKING:
    from pathlib import Path

STORIES = stories.load()
FAILED = [
    each
    for each in STORIES
    if any(step.errors for run in each.scenario.runs for step in run.steps)
    and not any(run.environment for run in each.scenario.runs)  # has no build
]


def played(*chosen: stories.Story) -> tuple[Organisation, list[dict[str, Any]]]:
    organisation = Organisation("contoso")
    organisation.url = "http://127.0.0.1:9/contoso"
    said: list[dict[str, Any]] = []
    stories.play_all(chosen, organisation, said.append, lambda: None)
    return organisation, said


def records(organisation: Organisation, story: stories.Story, run: int = 0) -> list[dict[str, Any]]:
    project = organisation.projects[story.project_id]
    number = sorted(project.builds)[run]
    found: list[dict[str, Any]] = project.timelines[number][project.current_timeline[number]]["records"]
    return found


def named(name: str) -> stories.Story:
    return next(each for each in STORIES if each.name == name)


def nothing_found(path: str) -> Any:
    return [] if path == "/api/incidents" else {"findings": []}


def nothing_seen(path: str) -> Any:
    return [] if path == "/api/incidents" else None


def test_there_is_a_story_for_each_thing_the_demo_promises() -> None:
    assert len(STORIES) >= 20
    assert len({each.scenario.project.name for each in STORIES}) == len(STORIES), (
        "each story has its own project"
    )


@pytest.mark.parametrize("story", STORIES, ids=lambda each: each.name)
def test_an_expectation_uses_the_words_of_triage(story: stories.Story) -> None:
    expected = story.scenario.expected
    assert expected.verdict is None or expected.verdict in list(Verdict)
    assert expected.link is None or expected.link in list(LinkMethod)
    assert expected.connection is None or expected.connection in [c.name for c in story.scenario.connections]


@pytest.mark.parametrize("story", STORIES, ids=lambda each: each.name)
def test_a_story_is_the_same_each_time_but_for_its_clock(story: stories.Story) -> None:
    def texts() -> list[str]:
        organisation, _ = played(story)
        runs = organisation.projects[story.project_id].logs.values()
        return [
            re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", "", log.decode())
            for logs in runs
            for log in logs.values()
        ]

    assert texts() == texts()


@pytest.mark.parametrize("story", FAILED, ids=lambda each: each.name)
def test_an_error_stands_on_the_line_of_the_log_that_its_issue_names(story: stories.Story) -> None:
    organisation, _ = played(story)
    logs = next(iter(organisation.projects[story.project_id].logs.values()))
    for record in records(organisation, story):
        for issue in record["issues"]:
            if record["log"] is None:
                assert "logFileLineNumber" not in issue["data"]
                continue
            line = (
                logs[record["log"]["id"]].split(b"\n")[int(issue["data"]["logFileLineNumber"]) - 1].decode()
            )
            assert issue["message"].split("\n")[0] in line


@pytest.mark.parametrize("story", FAILED, ids=lambda each: each.name)
def test_the_failed_step_s_log_holds_hundreds_of_lines_of_noise(story: stories.Story) -> None:
    organisation, _ = played(story)
    logs = next(iter(organisation.projects[story.project_id].logs.values()))
    total = sum(log.count(b"\n") for log in logs.values())
    assert total > 200 or not logs


def test_noise_alone_never_looks_like_a_credential_that_failed() -> None:
    organisation, _ = played(*STORIES)
    pack = match.load_pack()
    for story in STORIES:
        project = organisation.projects[story.project_id]
        for number in project.builds:
            for record in (
                project.timelines[number].get(project.current_timeline[number], {}).get("records", [])
            ):
                if (
                    record["type"] == "Task"
                    and record["log"]
                    and record["name"] in {"Initialize job", "Checkout"}
                ):
                    text = project.logs[number][record["log"]["id"]]
                    assert match.search(pack, [text]).matches == (), f"{story.name}: {record['name']}"


def test_a_retried_stage_keeps_its_first_attempt_in_a_timeline_of_its_own() -> None:
    story = named("retried-stage")
    organisation, said = played(story)
    project = organisation.projects[story.project_id]
    number = next(iter(project.builds))
    current = project.current_timeline[number]
    earlier = next(each for key, each in project.timelines[number].items() if key != current)
    stage = next(r for r in records(organisation, story) if r["type"] == "Stage" and r["name"] == "Release")
    assert stage["attempt"] == 2
    assert stage["previousAttempts"][0]["timelineId"] == earlier["id"]
    assert [r["name"] for r in earlier["records"] if r["type"] == "Task" and r["result"] == "failed"] == [
        "Push the image"
    ]
    assert [
        r["name"] for r in records(organisation, story) if r["type"] == "Task" and r["result"] == "failed"
    ] == ["Deploy the image"]
    assert said[0]["resource"]["stage"]["attempt"] == 2


def test_the_steps_behind_a_failed_one_are_skipped_and_have_no_log() -> None:
    organisation, _ = played(named("acr-automatic-connection"))
    skipped = [
        r for r in records(organisation, named("acr-automatic-connection")) if r["result"] == "skipped"
    ]
    assert {r["type"] for r in skipped} == {"Stage", "Phase", "Job"}
    assert all(r["log"] is None for r in skipped)


def test_the_first_log_of_a_yaml_run_is_its_expanded_yaml() -> None:
    story = named("arm-json-web-token")
    organisation, _ = played(story)
    text = next(iter(organisation.projects[story.project_id].logs.values()))[1]
    assert text.startswith(b"\xef\xbb\xbf")
    assert b"\r\n" in text
    steps = yaml.safe_load(text.decode("utf-8-sig"))["stages"][0]["jobs"][0]["steps"]
    assert steps[1]["inputs"]["azureResourceManagerConnection"] == "$(azureConnection)"


def test_a_designer_run_has_no_yaml_and_a_definition_with_the_connection_s_guid() -> None:
    story = named("designer-pipeline")
    organisation, _ = played(story)
    project = organisation.projects[story.project_id]
    assert 1 not in next(iter(project.logs.values()))
    process = next(iter(project.definitions.values()))[1]["process"]
    assert process["phases"][0]["steps"][0]["inputs"]["ConnectedServiceName"] in project.endpoints


def test_one_log_has_a_byte_order_mark_in_its_middle_and_progress_bars() -> None:
    story = named("arm-link-in-message")
    organisation, _ = played(story)
    logs = next(iter(organisation.projects[story.project_id].logs.values()))
    assert any(b"\n\xef\xbb\xbf" in log for log in logs.values())
    assert any(b"%\r" in log or b")\r" in log for log in logs.values())
    assert any(b"\x1b[" in log for log in logs.values())


def test_an_endpoint_holds_no_secret_and_looks_ready() -> None:
    organisation, _ = played(*STORIES)
    for project in organisation.projects.values():
        for endpoint in project.endpoints.values():
            assert endpoint["isReady"] is True
            assert endpoint["authorization"]["parameters"].get("serviceprincipalkey") is None


def test_events_come_as_the_scenario_says_and_name_the_played_organisation() -> None:
    _, said = played(named("arm-manual-secret"))
    assert [event["eventType"] for event in said] == [
        "build.complete",
        "ms.vss-pipelines.run-state-changed-event",
        "build.complete",
    ]
    assert {event["resourceContainers"]["collection"]["baseUrl"] for event in said} == {
        "http://127.0.0.1:9/contoso/"
    }
    assert said[0]["resource"]["result"] == said[1]["resource"]["run"]["result"] == "failed"


def test_a_pull_request_s_run_tells_its_number_in_three_places() -> None:
    story = named("pull-request")
    organisation, said = played(story)
    resource = said[0]["resource"]
    assert resource["reason"] == "pullRequest"
    assert resource["sourceBranch"] == "refs/pull/359/merge"
    assert resource["triggerInfo"]["pr.number"] == "359"
    assert (resource["repository"]["id"], 359) in organisation.projects[story.project_id].pull_requests


@pytest.mark.parametrize("story", STORIES, ids=lambda each: each.name)
def test_doing_nothing_is_right_for_exactly_the_stories_that_expect_nothing(story: stories.Story) -> None:
    organisation, _ = played(story)
    differences = stories.check(story, organisation, nothing_found)
    assert (differences == []) == (story.scenario.expected.work_item is None)


def test_doing_nothing_is_wrong_when_triage_never_looked() -> None:
    organisation, _ = played(named("failing-unit-tests"))
    told = stories.check(named("failing-unit-tests"), organisation, nothing_seen)
    assert len(told) == 1
    assert told[0].startswith(
        "triage has come to no conclusion about http://127.0.0.1:9/contoso/Identity/_build/"
    )


def test_a_second_work_item_an_open_thread_and_a_forbidden_word_are_told() -> None:
    story = named("red-herring-in-pull-request")
    organisation, _ = played(story)
    project = organisation.projects[story.project_id]
    for number in (1, 2):
        project.work_items[number] = {
            "id": number,
            "fields": {"System.WorkItemType": "Bug", "System.Title": "Renew vault-production"},
        }
    project.threads[next(iter(project.pull_requests))] = [
        {"id": 1, "status": "active", "comments": [{"content": "x"}]}
    ]
    told = "\n".join(stories.check(story, organisation, nothing_found))
    assert "Expected the work item's type to be nothing, but it is 'Bug'." in told
    assert "Expected one work item at most, but there are 2." in told
    assert "Expected every thread to be closed, but they are active." in told
    assert "No work item or thread may say 'vault-production', but one does." in told


def test_an_ending_that_triage_has_not_told_of_is_missed() -> None:
    story = named("renewed-and-closed")
    organisation, _ = played(story)
    told = "\n".join(stories.check(story, organisation, nothing_found))
    assert "Expected the states of the work items to be ['Completed'], but it is []." in told
    assert "Expected the incident to be 'closed', but it is nothing." in told
    number = max(organisation.projects[story.project_id].builds)
    assert f"A work item, a comment or a thread must say 'buildId={number}', but none does." in told


def test_what_comes_later_has_later_dates_and_ends_today() -> None:
    story = named("third-expiry-of-one-secret")
    organisation, _ = played(story)
    project = organisation.projects[story.project_id]
    ended = [build["finishTime"] for _, build in sorted(project.builds.items())]
    assert ended == sorted(ended)
    days = [date.fromisoformat(each[:10]) for each in ended]
    assert (days[-1] - days[0]).days in {180, 181}
    (connection,) = project.endpoints.values()
    assert connection["creationDate"] < ended[0]
    assert ended[2] < connection["modificationDate"] < ended[3], "a person renewed it before the run passed"


def test_all_mistakes_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('name = "other"\n[project]\nname = "P"\n[[runs]]\npipelin = "x"\n')
    (tmp_path / "two.toml").write_text("name = ")
    with pytest.raises(scenario.ScenarioError) as told:
        stories.load(tmp_path)
    assert "one.toml: runs.0.pipelin" in str(told.value)
    assert "one.toml: title" in str(told.value)
    assert "two.toml: not valid TOML" in str(told.value)


def test_a_story_is_called_as_its_file(tmp_path: Path) -> None:
    text = (stories.SCENARIOS / "green-run.toml").read_text()
    (tmp_path / "blue-run.toml").write_text(text)
    with pytest.raises(scenario.ScenarioError, match=r"blue-run\.toml: name: is 'green-run'"):
        stories.load(tmp_path)


def test_nobody_real_and_nothing_secret_is_in_a_scenario() -> None:
    for path in stories.SCENARIOS.glob("*.toml"):
        text = path.read_text()
        assert not re.search(r"[\w.]+@(?!contoso\.example)[\w.]+\.\w+", text), path.name
        assert not re.search(r"\b[A-Za-z0-9~_.-]{3}8Q~[A-Za-z0-9~_.-]{31,}", text), path.name


def test_the_readme_explains_every_key_of_a_scenario() -> None:
    text = (stories.SCENARIOS / "README.md").read_text()
    tables = (scenario.RunTable, scenario.StepTable, scenario.AfterwardsTable, scenario.Expected)
    missing = [key for table in tables for key in table.model_fields if not re.search(rf"\b{key}\b", text)]
    assert missing == []
