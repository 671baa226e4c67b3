"""What a finding calls for."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests import findings
from triage import plan, publish
from triage.domain import Attribution, Confidence, LinkMethod, Verdict
from triage.plan import FileWorkItem, LinkRun, Policy, PostThread, TagRun, TellClosed

if TYPE_CHECKING:
    from triage.domain import Finding

POLICY = Policy()
TAG = "triage-0123456789ab"


def decide(
    finding: Finding, *, work_item: int | None = None, first_of_pipeline: bool = True
) -> tuple[plan.Action, ...]:
    return plan.decide(
        finding,
        incident_id=5,
        incident_tag=TAG,
        work_item=work_item,
        first_of_pipeline=first_of_pipeline,
        policy=POLICY,
        pages_url="http://127.0.0.1:8080",
    )


def kinds(actions: tuple[plan.Action, ...]) -> list[type]:
    return [type(action) for action in actions]


def test_a_new_incident_tags_the_run_and_files_one_work_item() -> None:
    actions = decide(findings.finding())
    assert kinds(actions) == [TagRun, FileWorkItem]
    assert actions[1].incident_page == "http://127.0.0.1:8080/incidents/5"  # type: ignore[union-attr]


def test_a_pull_request_hears_of_it_after_the_work_item_is_there() -> None:
    assert kinds(decide(findings.finding(of_run=findings.pull_request_run()))) == [
        TagRun,
        FileWorkItem,
        PostThread,
    ]


@pytest.mark.parametrize("kind", ["GitHub", "Bitbucket", None])
def test_only_pull_requests_of_azure_repos_get_a_thread(kind: str | None) -> None:
    outside = findings.pull_request_run(repository_type=kind)
    assert PostThread not in kinds(decide(findings.finding(of_run=outside)))


def test_the_first_run_of_another_pipeline_is_linked_to_the_same_item() -> None:
    assert kinds(decide(findings.finding(), work_item=9)) == [TagRun, LinkRun]


def test_a_further_run_of_a_known_pipeline_only_looks_whether_the_item_was_closed() -> None:
    assert kinds(decide(findings.finding(), work_item=9, first_of_pipeline=False)) == [TagRun, TellClosed]


def test_a_certain_finding_is_acted_upon() -> None:
    assert plan.actionable(findings.finding(), POLICY) is None


def test_a_likely_finding_is_acted_upon_too() -> None:
    likely = findings.finding(of_match=findings.match(confidence=Confidence.LIKELY))
    assert plan.actionable(likely, POLICY) is None


def test_nothing_at_all_is_done_about_a_hint() -> None:
    hint = findings.finding(of_match=findings.match(confidence=Confidence.HINT))
    assert "hint" in (plan.actionable(hint, POLICY) or "")


def test_nothing_at_all_is_done_about_a_look_alike_and_it_explains_itself() -> None:
    alike = findings.match(verdict=Verdict.LOOK_ALIKE, explanation="The role assignment is missing.")
    assert "The role assignment is missing." in (
        plan.actionable(findings.finding(of_match=alike), POLICY) or ""
    )


@pytest.mark.parametrize(
    "run", [findings.pull_request_run(), findings.run(is_fork=True)], ids=["pull request", "fork"]
)
def test_a_run_from_outside_that_proves_no_use_of_the_connection_opens_nothing(run: object) -> None:
    claimed = Attribution(findings.connection(), LinkMethod.MESSAGE, "The log names it.")
    finding = replace(findings.finding(attribution=claimed), run=run)  # type: ignore[arg-type]
    assert "nothing shows" in (plan.actionable(finding, POLICY) or "")


def test_a_run_from_outside_that_certainly_used_the_connection_is_acted_upon() -> None:
    finding = findings.finding(of_run=findings.pull_request_run())
    assert plan.actionable(finding, POLICY) is None


def test_a_person_can_keep_pull_requests_from_opening_work_items() -> None:
    finding = findings.finding(of_run=findings.pull_request_run())
    assert "policy" in (plan.actionable(finding, replace(POLICY, pull_request_work_items="never")) or "")


def test_two_pipelines_that_use_one_connection_share_its_incident() -> None:
    other = findings.finding(of_run=findings.run(99, pipeline_id=8, pipeline_name="shop-test"))
    assert plan.incident_key(findings.finding()) == plan.incident_key(other)


def test_an_undecided_connection_keeps_each_pipelines_credential_apart() -> None:
    here = findings.finding(attribution=findings.undecided())
    there = findings.finding(of_run=findings.run(99, pipeline_id=8), attribution=findings.undecided())
    another = findings.finding(
        of_match=findings.match(credential="azure-devops-pat"), attribution=findings.undecided()
    )
    assert len({plan.incident_key(f) for f in (here, there, another)}) == 3


def test_the_incidents_tag_is_short_stable_and_fit_for_a_query() -> None:
    tag = plan.incident_tag("https://dev.azure.com/Contoso", "connection:1")
    assert re.fullmatch(r"triage-[0-9a-f]{12}", tag)
    assert tag == plan.incident_tag("https://dev.azure.com/contoso", "connection:1")
    assert tag != plan.incident_tag("https://dev.azure.com/fabrikam", "connection:1")


def test_deciding_again_names_the_same_effects() -> None:
    finding = findings.finding(of_run=findings.pull_request_run())
    first = [plan.key(action, 5) for action in decide(finding)]
    assert first == [plan.key(action, 5) for action in decide(finding)]
    assert len(set(first)) == len(first)


def test_two_runs_of_an_incident_share_the_effect_that_files_its_item() -> None:
    other = findings.finding(of_run=findings.run(42))
    assert plan.key(decide(findings.finding())[1], 5) == plan.key(decide(other)[1], 5)
    assert plan.key(decide(findings.finding())[0], 5) != plan.key(decide(other)[0], 5)


@pytest.mark.parametrize(
    ("work_item", "first", "says"),
    [
        (None, True, "file one work item in Shop, assigned to jo@contoso.example"),
        (9, True, "add the run to work item 9"),
        (9, False, "say on work item 9"),
    ],
)
def test_each_action_is_told_in_one_line(work_item: int | None, first: bool, says: str) -> None:  # noqa: FBT001
    finding = findings.finding(of_run=findings.pull_request_run())
    lines = [publish.describe(a) for a in decide(finding, work_item=work_item, first_of_pipeline=first)]
    assert lines[0] == "tag the run expired-credential"
    assert says in lines[1]
    assert lines[2] == "leave one thread on pull request 359"
    assert not any("\n" in line for line in lines)
    assert all(plan.kind(a) for a in decide(finding, work_item=work_item, first_of_pipeline=first))
