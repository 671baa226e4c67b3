"""What people read."""

from __future__ import annotations

from dataclasses import replace

from tests import findings
from triage.domain import Candidate, Confidence, Evidence, Owner, OwnerMethod, Recipe
from triage.publish import messages

TAG = "triage-0123456789ab"
PAGE = "http://127.0.0.1:8080/incidents/5"


def body(finding: object = None, remark: str = "") -> str:
    given = finding or findings.finding()
    return messages.work_item(given, incident_tag=TAG, incident_page=PAGE, remark=remark)  # type: ignore[arg-type]


def test_a_work_item_tells_in_the_order_in_which_a_tired_person_needs_it() -> None:
    order = [
        "The credential of the service connection [**prod-arm**]",
        "2026-11-21 at 03:12 UTC",
        "**Why this connection:**",
        "**Why jo\\@contoso.example:**",
        "## Renew it",
        "**Careful:** Do not create a secret in the portal.",
        "1. Open the connection.",
        "2. Choose Edit.",
        "**Who may do it:**",
        "**How to check:**",
        "three months",
        "### Use federation",
        "## What it breaks",
        PAGE,
        "## Evidence",
        "AADSTS7000222",
        "## When it works again",
        f"Filed by triage, {TAG}.",
    ]
    text = body()
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_the_evidence_links_to_its_line_of_the_log() -> None:
    link = f"&view=logs&j={findings.JOB}&t={findings.STEP}&l=214)"
    assert f"[line 214 of its log]({findings.run().url}{link}" in body()


def test_evidence_from_the_runs_errors_links_to_no_log() -> None:
    issue = Evidence(findings.match(), findings.finding().evidence.record, source="issue")
    text = body(findings.finding(evidence=issue))
    assert "among the errors on the run's page" in text
    assert "view=logs" not in text


def test_a_record_id_that_is_no_guid_makes_no_link() -> None:
    record = findings.finding().evidence.record
    assert record is not None
    strange = Evidence(findings.match(), replace(record, id="x)](https://evil.example"))
    assert "evil" not in body(findings.finding(evidence=strange))


def test_a_certain_finding_asks_for_no_confirmation() -> None:
    assert "Please" not in body().split("## Renew it")[0]


def test_a_likely_finding_asks_to_confirm_before_the_steps() -> None:
    text = body(findings.finding(of_match=findings.match(confidence=Confidence.LIKELY)))
    assert text.index("Please confirm before you renew") < text.index("## Renew it")


def test_an_undecided_connection_lists_the_candidates_to_choose_among() -> None:
    candidate = Candidate(findings.connection(), "It is of a fitting type.")
    text = body(findings.finding(attribution=findings.undecided((candidate,))))
    assert "A credential of the pipeline **shop-deploy**" in text
    assert "Please decide which service connection" in text
    assert f"- [prod-arm]({findings.connection().url}): It is of a fitting type." in text


def test_without_any_candidate_it_says_where_else_a_credential_may_be_kept() -> None:
    text = body(findings.finding(attribution=findings.undecided()))
    assert "variable group" in text


def test_a_remark_on_the_filing_is_told_among_the_reasons() -> None:
    text = body(remark="Nobody could be assigned.")
    assert text.index("Nobody could be assigned.") < text.index("## Renew it")


def test_a_recipe_with_nothing_but_steps_leaves_no_empty_parts() -> None:
    text = body(findings.finding(recipe=Recipe("ask", "Renew it", ("Ask.",))))
    assert "Careful" not in text
    assert "Who may do it" not in text
    assert "\n\n\n" not in text


FULL = Recipe(
    "full",
    "Renew it",
    ("Ask *Ada*.",),
    command_line=("Make one: `tool new --name <name>`.", "Enter it: `tool enter`."),
    alternatives=(("Never again: federation", ("Convert it.",)),),
    permissions=("Ada.",),
    verify="Run it.",
    meanwhile="Deployments fail; the old secret stays valid.",
    interval="three months",
)


def test_a_recipe_tells_commands_and_what_breaks_meanwhile_in_the_order_of_need() -> None:
    text = body(findings.finding(recipe=FULL))
    told = (
        "1. Ask *Ada*.",
        "- **Who may do it:** Ada.",
        "- **How to check:** Run it.",
        "- **Meanwhile:** Deployments fail; the old secret stays valid.",
        "- **It comes again:** in three months, unless you choose another way below.",
        "### Or from the command line",
        "1. Make one: `tool new --name <name>`.\n2. Enter it: `tool enter`.",
        "### Never again: federation",
    )
    places = [text.index(each) for each in told]
    assert places == sorted(places)
    assert "<code>tool new --name &lt;name&gt;</code>" in messages.html(text)


def test_a_lone_sentence_says_why_there_is_no_command() -> None:
    recipe = replace(
        FULL, command_line=("There is no command for it.",), alternatives=(), no_alternative="Never."
    )
    text = body(findings.finding(recipe=recipe))
    assert "### Or from the command line\n\nThere is no command for it.\n" in text
    assert "- **It comes again:** in three months.\n- **Never again?** Never." in text


def test_a_title_says_what_broke() -> None:
    assert messages.title(findings.finding()) == (
        "[triage] Credential of service connection 'prod-arm' has expired"
    )
    undecided = findings.finding(attribution=findings.undecided())
    assert messages.title(undecided) == "[triage] A credential of pipeline 'shop-deploy' has expired"


def test_a_thread_is_short_and_clears_the_author() -> None:
    text = messages.thread(findings.finding(), work_item_url=f"{PAGE}/9", work_item=9, marker=TAG)
    assert text.startswith("**This is not your change.**")
    assert f"[work item 9]({PAGE}/9)" in text
    assert text.rstrip().endswith(messages.marker_line(TAG))
    assert len(text) < 700


def test_a_thread_that_is_not_certain_says_so() -> None:
    likely = findings.finding(of_match=findings.match(confidence=Confidence.LIKELY))
    text = messages.thread(likely, work_item_url=None, work_item=None, marker=TAG)
    assert text.startswith("**This is most likely not your change.**")


def test_a_thread_without_an_owner_or_item_promises_nothing() -> None:
    nobody = findings.finding(owner=Owner(None, OwnerMethod.NOBODY, "Nobody found."))
    text = messages.thread(nobody, work_item_url=None, work_item=None, marker=TAG)
    assert "Somebody has to renew it." in text
    assert "work item" not in text


def test_what_is_filled_in_is_never_filled_in_again() -> None:
    text = messages.thread(
        findings.named("{marker} {who.__class__}"), work_item_url=None, work_item=None, marker=TAG
    )
    assert text.count(TAG) == 1
