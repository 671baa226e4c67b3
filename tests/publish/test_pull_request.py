"""One thread for each pull request and incident, at the wire of a played Azure DevOps."""

from __future__ import annotations

from typing import Any

import pytest

from tests import findings
from tests.publish.conftest import TAG, Stage
from triage.acts import PostThread, TagRun
from triage.errors import RetryLater
from triage.sandbox.organisation import Fault


def post(stage: Stage, number: int = 41, *, work_item: int | None = 9, attempts: int = 1) -> str:
    finding = stage.finding(findings.pull_request_run(number))
    return stage.do(PostThread(finding, TAG, work_item), attempts=attempts).detail


def test_a_thread_is_closed_so_that_it_never_blocks_the_pull_request(stage: Stage) -> None:
    post(stage)
    (thread,) = stage.threads
    assert thread["status"] == "closed"


def test_a_thread_clears_the_author_and_links_the_work_item(stage: Stage) -> None:
    post(stage)
    text = stage.threads[0]["comments"][0]["content"]
    assert "This is not your change" in text
    assert f"{stage.organisation.url}/Shop/_workitems/edit/9" in text


def test_later_runs_bring_the_same_comment_up_to_date(stage: Stage) -> None:
    for number in (41, 42, 43):
        post(stage, number)
    (thread,) = stage.threads
    assert len(thread["comments"]) == 1
    assert "20261121.43" in thread["comments"][0]["content"]


def test_doing_it_again_writes_nothing(stage: Stage) -> None:
    post(stage)
    before = len(stage.organisation.ledger)
    post(stage, attempts=2)
    assert len(stage.organisation.ledger) == before


def test_a_lost_reply_does_not_double_the_thread(stage: Stage) -> None:
    stage.organisation.faults.append(Fault("POST", "/threads$", lose_reply=True))
    with pytest.raises(RetryLater):
        post(stage)
    post(stage, attempts=2)
    assert len(stage.threads) == 1


def test_a_thread_without_its_property_is_found_by_its_last_line(stage: Stage) -> None:
    post(stage)
    stage.threads[0]["properties"] = {}
    post(stage, 42)
    assert len(stage.threads) == 1


def test_a_thread_that_was_opened_twice_is_deleted_unless_somebody_answered(stage: Stage) -> None:
    post(stage)
    where = (stage.project.id, findings.REPOSITORY, 359)
    text = stage.threads[0]["comments"][0]["content"]
    for _ in range(2):  # by another deployment of triage
        stage.door.create_thread(*where, text, properties={"triage.key": TAG})
    answered = stage.threads[2]
    answered["comments"].append({**answered["comments"][0], "id": 2, "content": "Thanks, I will renew it."})
    post(stage, 42)
    assert [thread["isDeleted"] for thread in stage.threads] == [False, True, False]
    assert "20261121.42" in stage.threads[0]["comments"][0]["content"]


def test_a_thread_that_may_not_be_deleted_stays(stage: Stage) -> None:
    post(stage)
    text = stage.threads[0]["comments"][0]["content"]
    where = (stage.project.id, findings.REPOSITORY, 359)
    stage.door.create_thread(*where, text, properties={"triage.key": TAG})
    stage.organisation.faults.append(Fault("DELETE", "/comments/", status=403))
    post(stage, 42)
    assert [thread["isDeleted"] for thread in stage.threads] == [False, False]
    assert "20261121.42" in stage.threads[0]["comments"][0]["content"]


def test_other_peoples_threads_are_never_touched(stage: Stage) -> None:
    key = (findings.REPOSITORY, 359)
    theirs: dict[str, Any] = {
        "id": 1,
        "status": "active",
        "properties": {},
        "isDeleted": False,
        "comments": [{"id": 1, "content": f"What is {TAG}?", "isDeleted": False}],
    }
    stage.project.threads[key] = [theirs]
    post(stage)
    assert len(stage.threads) == 2
    assert theirs["comments"][0]["content"] == f"What is {TAG}?"


def test_a_comment_that_a_person_rewrote_or_removed_stays_as_it_is(stage: Stage) -> None:
    post(stage)
    stage.threads[0]["comments"] = [{"id": 2, "content": "Renewed, thanks.", "isDeleted": False}]
    assert "left alone" in post(stage, 42)
    assert [c["content"] for c in stage.threads[0]["comments"]] == ["Renewed, thanks."]
    assert len(stage.threads) == 1


def test_a_pull_request_that_is_gone_ends_the_act_in_words(stage: Stage) -> None:
    stage.project.pull_requests.clear()
    with pytest.raises(RetryLater, match="Not found, or not visible"):  # it may come to sight again
        post(stage)
    assert "could not be told" in post(stage, attempts=16)


def test_the_thread_is_seen_at_its_pull_request(stage: Stage) -> None:
    finding = stage.finding(findings.pull_request_run())
    url = stage.do(PostThread(finding, TAG, None)).url
    assert url == f"{stage.organisation.url}/Shop/_git/{findings.REPOSITORY}/pullrequest/359"


def test_a_run_is_tagged_once_however_often_it_is_done(stage: Stage) -> None:
    for attempts in (1, 2, 3):
        stage.do(TagRun(stage.finding().run, "expired-credential"), attempts=attempts)
    assert stage.project.build_tags[41] == ["expired-credential"]
