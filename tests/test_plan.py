"""What a finding calls for."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests import findings
from triage import plan, publish
from triage.acts import FileWorkItem, PostThread, TagRun, TellClosed, UpdateWorkItem
from triage.domain import Attribution, Confidence, LinkMethod, Verdict
from triage.plan import News, Policy

if TYPE_CHECKING:
    from triage import acts
    from triage.domain import Finding, Run

POLICY = Policy()
TAG = "triage-0123456789ab"


NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def news(finding: Finding, **changes: Any) -> News:
    run = finding.run
    first = News(
        finding, publish.title(finding), (run,), (), count=1, item_count=0, item_at=None, latest=run, newest=1
    )
    return replace(first, **changes)


def known(finding: Finding, **changes: Any) -> News:
    """Return the news of an incident whose work item was written to an hour ago."""
    return news(finding, **{"count": 3, "item_count": 2, "item_at": NOW - timedelta(hours=1), **changes})


def decide(finding: Finding | News, *, work_item: int | None = None) -> tuple[acts.Act, ...]:
    return plan.decide(
        finding if isinstance(finding, News) else news(finding),
        incident_id=5,
        incident_tag=TAG,
        work_item=work_item,
        now=NOW,
        policy=POLICY,
        pages_url="http://127.0.0.1:8080",
    )


def kinds(actions: tuple[acts.Act, ...]) -> list[type]:
    return [type(action) for action in actions]


def test_a_new_incident_tags_the_run_and_files_one_work_item() -> None:
    actions = decide(findings.finding())
    assert kinds(actions) == [TagRun, FileWorkItem]
    (filed,) = [act for act in actions if isinstance(act, FileWorkItem)]
    assert filed.incident_page == "http://127.0.0.1:8080/incidents/5"


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


def test_another_pipeline_is_told_to_the_same_item_in_one_revision() -> None:
    others = tuple(findings.run(number, pipeline_id=number) for number in range(50, 80))
    actions = decide(known(findings.finding(), pipelines=others), work_item=9)
    assert kinds(actions) == [TagRun, UpdateWorkItem, TellClosed]
    update = actions[1]
    assert isinstance(update, UpdateWorkItem)
    assert (len(update.runs), update.more, update.count) == (10, 20, 3)


def test_a_further_run_of_a_known_pipeline_only_looks_whether_the_item_was_closed() -> None:
    assert kinds(decide(known(findings.finding()), work_item=9)) == [TagRun, TellClosed]


@pytest.mark.parametrize(
    ("count", "item_count", "minutes", "is_told"),
    [
        (10, 9, 6, True),  # a round number, after the group interval
        (10, 9, 4, False),  # not yet
        (5000, 900, 6, True),
        (99, 10, 6, False),
        (99, 10, 24 * 60, True),  # it goes on
        (99, 99, 24 * 60, False),  # nothing new
    ],
)
def test_a_work_item_hears_of_round_numbers_and_then_once_a_day(
    count: int,
    item_count: int,
    minutes: int,
    is_told: bool,  # noqa: FBT001
) -> None:
    at = NOW - timedelta(minutes=minutes)
    told = decide(known(findings.finding(), count=count, item_count=item_count, item_at=at), work_item=9)
    assert (UpdateWorkItem in kinds(told)) is is_told


def test_what_the_item_may_not_hear_yet_it_hears_later() -> None:
    just_now = known(findings.finding(), count=10, item_count=9, item_at=NOW)
    assert plan.item_due(just_now, POLICY) == NOW + POLICY.group_interval
    assert plan.item_due(replace(just_now, count=9), POLICY) is None


def test_a_storm_is_told_of_soon_and_then_together() -> None:
    def wait(count: int, *, is_news: bool) -> timedelta:
        return plan.telling_wait(count, is_news=is_news, policy=POLICY)

    assert wait(1, is_news=True) == wait(1000, is_news=False) == wait(7, is_news=True) == POLICY.group_wait
    assert wait(7, is_news=False) == wait(110, is_news=False) == POLICY.group_interval


def test_each_pull_request_is_told_once_by_its_newest_run() -> None:
    runs = tuple(findings.pull_request_run(number) for number in (41, 42, 43))
    actions = decide(known(findings.finding(), runs=runs), work_item=9)
    (thread,) = [action for action in actions if isinstance(action, PostThread)]
    assert thread.finding.run.ref.id == 43


def test_a_failure_is_known_again_by_its_step_its_message_and_its_branch() -> None:
    finding = findings.finding()

    def told(run: Run, **captures: str) -> str:
        match = replace(finding.match, captures={**finding.match.captures, **captures})
        return plan.fingerprint(run, replace(finding.evidence, match=match))

    first = told(findings.run(41))
    assert first == told(findings.run(99))
    others = {
        told(findings.run(41, pipeline_id=8)),
        told(findings.run(41, source_branch="refs/heads/other")),
        told(findings.run(41, asked="another digest")),
        told(findings.run(41), application="another"),
    }
    assert len({first, *others}) == 5


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
    first = [action.key(5) for action in decide(finding)]
    assert first == [action.key(5) for action in decide(finding)]
    assert len(set(first)) == len(first)


def test_two_runs_of_an_incident_share_the_effect_that_files_its_item() -> None:
    other = findings.finding(of_run=findings.run(42))
    assert decide(findings.finding())[1].key(5) == decide(other)[1].key(5)
    assert decide(findings.finding())[0].key(5) != decide(other)[0].key(5)


@pytest.mark.parametrize(
    ("work_item", "count", "says"),
    [
        (None, 1, "file one work item in Shop, assigned to jo@contoso.example"),
        (9, 10, "tell work item 9 of further runs"),
        (9, 3, "say on work item 9"),
    ],
)
def test_each_action_is_told_in_one_line(work_item: int | None, count: int, says: str) -> None:
    told = known(findings.finding(of_run=findings.pull_request_run()), count=count)
    lines = [str(a) for a in decide(told, work_item=work_item)]
    assert lines[0] == "tag the run expired-credential"
    assert says in lines[1]
    assert lines[-1] == "leave one thread on pull request 359"
    assert not any("\n" in line for line in lines)
    assert all(a.name for a in decide(told, work_item=work_item))
