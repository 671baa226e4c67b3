"""What triage says to people, whole: titles, work items, comments."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from triage import impact
from triage.acts import EARLIER_MAX
from triage.domain import Confidence, Verdict
from triage.safe import fenced, visible, words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from triage.acts import Earlier, TellChanged
    from triage.domain import Attribution, Evidence, Finding, Impact, Recipe, Run

_TITLE_MAX = 255
_TOO_OFTEN = 3  # from this time on the way that ends it comes before the renewal
_ORDINALS = (
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
)
_DAYS_OF_MONTH = 365.25 / 12
_MONTHS_FROM = 45  # days
_YEARS_FROM = 24  # months
MARKER = "Filed by triage"
_HTML = MarkdownIt("commonmark", {"html": False})
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

_STATE = {
    Verdict.EXPIRED: "has expired",
    Verdict.REVOKED: "was revoked",
    Verdict.REJECTED: "is refused",
    Verdict.MISSING: "is missing",
    Verdict.MISCONFIGURED: "is set up wrongly",
    Verdict.LOOK_ALIKE: "only looks expired",
}

_CONFIRM = (
    "**Please confirm before you renew.** The message leaves room for another cause; "
    "the evidence is at the end of this text."
)

_CHOOSE = (
    "**Please decide which service connection it is.** The log does not name it. "
    "It could be one of these; open it and look at its credential:"
)

_CHOOSE_BLIND = (
    "**Please find out which credential it is.** The log does not name it, and no service connection of "
    "this project fits. It may be kept in a variable, a variable group or the pipeline itself."
)

_CLOSING = """\
{what} If you close it and runs still fail, triage says so here, once. What you write here stays: title, \
assignee and text are yours. If this is not the cause, close the item and say why in a comment."""

_WHO_CLOSES = {
    "close": "triage closes this item by itself once a run shows that the credential works.",
    "resolve": "triage sets this item to resolved by itself once a run shows that the credential works.",
    "comment": "triage says so here once a run shows that the credential works; then please close this item.",
}

_STILL_FAILING = """\
This item is closed, but the credential still breaks runs: {run} failed for the same reason \
afterwards. Please look again. triage says this only once."""

_ENDED = """\
**It works again.** {proof}{what}"""

_WHAT_NOW = {
    "close": " triage closes this item, and opens it again should a run fail of it soon.",
    "resolve": " triage sets this item to resolved, and opens it again should a run fail of it soon.",
    "comment": " Please close this item.",
}

_CHANGED = """\
**The connection was changed**{by} on {at}. That alone does not show that it works: {what} once a run that \
uses it has passed."""

_CHANGED_IN_VAIN = """\
**The connection was changed, but its test still fails.** {who} changed it on {at}; since then Azure DevOps \
has tried its credential and was told: “{refused}” Please look at it again; {what} once it is changed and \
the test passes, or a run that uses it has passed."""

_WHAT_THEN = {
    "close": "triage closes this item",
    "resolve": "triage sets this item to resolved",
    "comment": "triage says so here",
}

_CAME_BACK = """\
**It fails again.** {run} failed for the same reason after the credential had worked. Perhaps it was \
renewed in one place only, or the pipeline uses an older copy."""

_THREAD_END = """\
**It works again.** {what} has been renewed: run the pipeline again.

{marker}
"""

_DUPLICATE = """\
This credential was filed twice at the same moment. Work item #{keep} stays, where its runs are told; \
this one is closed."""

_TOOK_OVER = """\
This credential was filed twice at the same moment. This work item stays, and knows the runs of work item \
#{number} from now on, which is closed."""

_DIGEST_TITLE = "[triage] More credentials need renewal than triage files work items for"
_DIGEST = """\
Within an hour triage has filed {limit} work items in this project, and there are more credentials to \
renew. **[All of them, with their owners and steps, are on triage's page]({page}).** triage files no \
further items for now, so as not to bury your board.

Several at once usually have one cause: a certificate or an identity that many connections share, or a \
policy that has cut the lifetime of secrets. Look for it first. If your board can take more, raise \
policy.items_per_project_hour."""

_OUT_OF_DIGEST = """\
Until now [work item {number}]({page}) spoke for it and for others. It goes on, so this item is its own."""

_HOOKS_TITLE = "[triage] Azure DevOps does not tell triage of failed runs any more"
_HOOKS = """\
{problems}

Failed runs are still found by the sweep, minutes later. To mend it, run on the machine of triage:

1. `triage hooks status --all-projects` tells how each subscription stands and what its last event met.
2. `triage hooks repair --all-projects` replaces what Azure DevOps has switched off.
3. `triage doctor` looks at the rest: address, password, rights.

What has arrived is on [triage's page]({page}/deliveries). triage closes this item once events arrive."""

_HOOKS_AGAIN = "Events arrive again; triage closes this item."

_ADOPTED = "The credential of this item breaks {run}, which is linked to it."

_THREAD = """\
**{verdict}** Run {run} failed because {what}.

{who}{where}. Nothing is to be done in this pull request: run the pipeline again once it is renewed.

{marker}
"""


def title(finding: Finding) -> str:
    """Return the title of an incident and its work item."""
    state = _STATE[finding.match.verdict]
    if finding.connection is not None:
        before, name = "[triage] Credential of service connection", finding.connection.name
    else:
        before, name = "[triage] A credential of pipeline", finding.run.pipeline_name
    shown = visible(name)
    room = _TITLE_MAX - len(f"{before} '' {state}")
    shown = shown if len(shown) <= room else shown[: room - 1] + "…"
    return f"{before} '{shown}' {state}"


def work_item(
    finding: Finding,
    *,
    incident_tag: str,
    incident_page: str,
    remark: str = "",
    pipelines: Sequence[Run] = (),
    count: int = 1,
    earlier: Sequence[tuple[Earlier, str]] = (),
    digest: tuple[int | None, str] = (None, ""),
    after: str = "close",
) -> str:
    """Return the body of a work item, Markdown: what broke, whose, the steps, the evidence.

    `remark` is a sentence of ours about how the item was filed, such as a refused assignee; `pipelines`
    are the first runs of the pipelines it breaks, `count` how many runs it broke before it was filed,
    `earlier` the times it had to be renewed before, each with the page of its work item; `digest` is the
    work item that spoke for it until now, with its page; `after` is the policy for when it works again.
    """
    parts = [
        _what_broke(finding),
        again(finding, [each for each, _ in earlier]),
        _doubts(finding),
        _reasons(finding, remark),
        _OUT_OF_DIGEST.format(number=digest[0], page=digest[1]) if digest[0] else "",
        _before(earlier),
        *_steps(finding.recipe, len(earlier) + 1),
        "## What it breaks",
        _affected((finding.run, *pipelines), count, incident_page, finding.impact),
        "## Evidence",
        _evidence(finding),
        "## When it works again",
        _CLOSING.format(what=_WHO_CLOSES[after]),
        marker_line(incident_tag),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def adopted(run: Run) -> str:
    """Return the comment on a work item that was there before triage knew of it, Markdown."""
    return _ADOPTED.format(run=_run(run))


def duplicate(keep: int) -> str:
    """Return the comment on a work item that was filed twice, Markdown."""
    return _DUPLICATE.format(keep=keep)


def took_over(number: int) -> str:
    """Return the comment on a work item that stays of two, Markdown."""
    return _TOOK_OVER.format(number=number)


def digest(limit: int, page: str) -> tuple[str, str]:
    """Return title and text of the work item that stands for all beyond the limit, Markdown."""
    return _DIGEST_TITLE, _DIGEST.format(limit=limit, page=page)


def hooks_failing(problems: Sequence[str], page: str) -> tuple[str, str]:
    """Return title and text of the work item that says that events do not arrive, Markdown."""
    listed = "\n".join(f"- {words(each)}" for each in problems)
    return _HOOKS_TITLE, _HOOKS.format(problems=listed, page=page)


def hooks_work_again() -> str:
    """Return the comment with which that work item is closed, Markdown."""
    return _HOOKS_AGAIN


def further_runs(runs: Sequence[Run], more: int, count: int, incident_page: str) -> str:
    """Return the comment that tells a work item of further runs, Markdown."""
    listed = "\n".join(f"- {_run(run)}" for run in runs)
    others = f"\n- and {more} more pipelines" if more else ""
    told = f"This credential has broken **{_counted(count)}** so far. New since the last comment:"
    return f"{told}\n\n{listed}{others}\n\n[All of them, on triage's page]({incident_page})."


def still_failing(run: Run) -> str:
    """Return the comment on a work item that was closed too early, Markdown."""
    return _STILL_FAILING.format(run=_run(run))


def ended(proof: str, after: str) -> str:
    """Return the comment on a work item whose credential works again, Markdown; `after` is the policy."""
    return _ENDED.format(proof=proof, what=_WHAT_NOW[after])


def changed(act: TellChanged, after: str) -> str:
    """Return the comment on a work item whose connection was changed, Markdown; `after` is the policy."""
    who, at, what = words(act.changed_by), to_the_second(act.changed_at), _WHAT_THEN[after]
    if act.refused:
        return _CHANGED_IN_VAIN.format(who=who or "Somebody", at=at, refused=words(act.refused), what=what)
    return _CHANGED.format(by=f" by {who}" if who else "", at=at, what=what)


def to_the_second(moment: datetime) -> str:
    """Return a moment as a comment names it, by which that comment is found again."""
    return f"{moment:%Y-%m-%d at %H:%M:%S} UTC"


def came_back(run: Run) -> str:
    """Return the comment on a work item that is opened again, Markdown."""
    return _CAME_BACK.format(run=_run(run))


def thread_end(finding: Finding, *, marker: str) -> str:
    """Return the comment on a pull request whose pipeline can be run again, Markdown."""
    connection = finding.connection
    name = f"The credential of the service connection **{words(connection.name)}**" if connection else ""
    return _THREAD_END.format(what=name or "The credential of this pipeline", marker=marker_line(marker))


def thread(finding: Finding, *, work_item_url: str | None, work_item: int | None, marker: str) -> str:
    """Return the comment on a pull request, Markdown."""
    run, connection = finding.run, finding.connection
    state = _STATE[finding.match.verdict]
    if connection is not None:
        what = f"the credential of the service connection **{words(connection.name)}** {state}"
    else:
        what = f"a credential of this pipeline {state}"
    owner = finding.owner.assignee or finding.owner.team
    certain = finding.match.confidence is Confidence.CERTAIN
    return _THREAD.format(
        verdict="This is not your change." if certain else "This is most likely not your change.",
        run=f"[{words(run.number)}]({run.url})",
        what=what,
        who=f"{words(owner)} has been asked to renew it" if owner else "Somebody has to renew it",
        where=f", see [work item {work_item}]({work_item_url})" if work_item_url else "",
        marker=marker_line(marker),
    )


def marker_line(marker: str) -> str:
    """Return the last line of what triage writes, by which it finds its own words again."""
    return f"{MARKER}, {marker}."


def html(markdown: str) -> str:
    """Return Markdown of ours as the HTML that older work item fields take."""
    return str(_HTML.render(markdown))


def _run(run: Run) -> str:
    return f"[{words(run.pipeline_name)} {words(run.number)}]({run.url})"


def _what_broke(finding: Finding) -> str:
    run, match, connection = finding.run, finding.match, finding.connection
    if connection is not None:
        link = f"[**{words(connection.name)}**]({connection.url})"
        what = f"The credential of the service connection {link} ({words(connection.type)}) "
    else:
        what = f"A credential of the pipeline **{words(run.pipeline_name)}** "
    since = f" on {run.finished_at:%Y-%m-%d at %H:%M} UTC" if run.finished_at else ""
    return f"{what}**{_STATE[match.verdict]}**. {words(match.title)}; first seen in {_run(run)}{since}."


def _affected(runs: Sequence[Run], count: int, incident_page: str, told: Impact) -> str:
    first_of = {run.pipeline_id: run for run in reversed(runs)}
    listed = [f"- {_run(run)} in project {words(run.project_name)}" for run in reversed(first_of.values())]
    so_far = f" ({count} when this was filed)" if count > 1 else ""
    listed.append(
        f"- [All runs it broke, on triage's page]({incident_page}){so_far}; other pipelines are linked to "
        "this item."
    )
    if next_ := _next(told, runs):
        listed.append(next_)
    return "\n".join(listed)


def _next(told: Impact, broken: Sequence[Run]) -> str:
    """Return which pipelines fail next, those left out that have failed already; "" when none is known."""
    coming = impact.without(told, {(run.project_id.lower(), run.pipeline_id, run.ref.kind) for run in broken})
    if not coming.pipelines:
        return ""
    named = [f"[{words(each.name) or 'a pipeline without a name'}]({each.url})" for each in coming.pipelines]
    others = impact.others(coming)
    if others:
        named.append(others)
    *most, last = named
    listed = f"{', '.join(most)} and {last}" if most else last
    who = "It" if len(coming.pipelines) == 1 and not others else "They"
    return f"- Will fail next: {listed}. {who} used this connection in the last 90 days."


def _counted(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs:,} runs"


def _doubts(finding: Finding) -> str:
    """Return what the reader has to decide before renewing, "" when nothing is open."""
    doubts = [_CONFIRM] if finding.match.confidence is Confidence.LIKELY else []
    if finding.connection is None:
        doubts.append(_candidates(finding.attribution))
    return "\n\n".join(doubts)


def _candidates(attribution: Attribution) -> str:
    if not attribution.candidates:
        return _CHOOSE_BLIND
    listed = "\n".join(
        f"- [{words(each.connection.name)}]({each.connection.url}): {words(each.reason)}"
        for each in attribution.candidates
    )
    return f"{_CHOOSE}\n\n{listed}"


def _reasons(finding: Finding, remark: str) -> str:
    owner = finding.owner
    who = words(owner.assignee or owner.team or "nobody")
    what = "Why this connection" if finding.connection is not None else "Why no connection is named"
    lines = [
        f"- **{what}:** {words(finding.attribution.reason)}",
        f"- **Why {who}:** {words(owner.reason)}",
    ]
    if remark:
        lines.append(f"- **How it was filed:** {remark}")
    return "\n".join(lines)


def again(finding: Finding, earlier: Sequence[Earlier]) -> str:
    """Return how often it has happened by now, and the way out, Markdown; "" the first time."""
    if not earlier:
        return ""
    recipe, times = finding.recipe, len(earlier) + 1
    first = min(each.opened_at for each in earlier)
    at_least = "at least " if len(earlier) >= EARLIER_MAX else ""
    since = _span(first, finding.run.finished_at) if finding.run.finished_at else ""
    told = f"This is {at_least}the {_ORDINALS[min(times, len(_ORDINALS)) - 1]} time{since}."
    if recipe.lasting is not None:
        instead = ": do that instead of renewing it" if times >= _TOO_OFTEN else ""
        return f"**{told} {recipe.lasting[1]} and ends it{instead}.**"
    ways = [] if recipe.no_alternative else [name for name, _ in recipe.alternatives]
    return f"**{told}**" + (f" There is another way below: *{ways[0]}*." if ways else "")


def _span(first: datetime, last: datetime) -> str:
    """Return in how long something happened, as the end of a sentence."""
    days = (last - first).days
    if days < _MONTHS_FROM:
        return "" if days < 1 else " in 1 day" if days == 1 else f" in {days} days"
    months = round(days / _DAYS_OF_MONTH)
    return f" in {months} months" if months < _YEARS_FROM else f" in {months // 12} years"


def _before(earlier: Sequence[tuple[Earlier, str]]) -> str:
    """Return when it happened before and who renewed it; "" when it did not."""
    if not earlier:
        return ""
    lines = []
    for each, page in earlier:
        who = f", renewed by {words(each.renewed_by)}" if each.renewed_by else ""
        item = f", [work item {each.work_item}]({page})" if page else ""
        lines.append(f"- {_while(each)}{who}{item}")
    return "\n".join(["## It happened before", "", *lines])


def _while(each: Earlier) -> str:
    """Return from when to when it was broken."""
    first, last = each.opened_at, each.closed_at
    if last is None:
        return f"{first:%Y-%m-%d}"
    if last.date() == first.date():
        return f"{first:%Y-%m-%d}, {first:%H:%M} to {last:%H:%M} UTC"
    return f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"


def _steps(recipe: Recipe, times: int) -> list[str]:
    """Return what to do; of what expires time and again the way that ends it before the renewal."""
    lasting = recipe.lasting[0] if recipe.lasting is not None else ""
    ending = [way for way in recipe.alternatives if way[0] == lasting]
    if times < _TOO_OFTEN or not ending:
        return ["## Renew it", renewal(recipe)]
    others = tuple(way for way in recipe.alternatives if way not in ending)
    ended = [part for title, steps in ending for part in (f"**{title}**", _numbered(steps))]
    return [
        "## End it for good",
        *ended,
        "## Or renew it once more",
        renewal(replace(recipe, alternatives=others)),
    ]


def renewal(recipe: Recipe) -> str:
    """Return how a credential is renewed, Markdown."""
    parts = [f"**{recipe.title}**"]
    if recipe.links:
        parts.append(f"Open: {', '.join(f'[{title}]({url})' for title, url in recipe.links)}.")
    parts += [f"> **Careful:** {warning}" for warning in recipe.warnings]
    parts += [_numbered(recipe.steps), _facts(recipe), *_commands(recipe)]
    for name, steps in recipe.alternatives:
        parts += [f"### {name}", _numbered(steps)]
    if recipe.references:
        links = ", ".join(f"[{n}]({url})" for n, url in enumerate(recipe.references, 1))
        parts.append(f"Sources: {links}")
    return "\n\n".join(part for part in parts if part)


def _numbered(steps: tuple[str, ...]) -> str:
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))


def _commands(recipe: Recipe) -> list[str]:
    """Return the section of commands; a lone sentence says why there are none."""
    lines = recipe.command_line
    if not lines:
        return []
    return ["### Or from the command line", lines[0] if len(lines) == 1 else _numbered(lines)]


def _facts(recipe: Recipe) -> str:
    facts = []
    if recipe.permissions:
        facts.append(f"- **Who may do it:** {' '.join(recipe.permissions)}")
    if recipe.verify:
        facts.append(f"- **How to check:** {recipe.verify}")
    if recipe.meanwhile:
        facts.append(f"- **Meanwhile:** {recipe.meanwhile}")
    if recipe.interval:
        what_follows = ", unless you choose another way below" if recipe.alternatives else ""
        facts.append(f"- **It comes again:** in {recipe.interval}{what_follows}.")
    if recipe.no_alternative:
        facts.append(f"- **Never again?** {recipe.no_alternative}")
    return "\n".join(facts)


def _evidence(finding: Finding) -> str:
    evidence, match = finding.evidence, finding.match
    record = evidence.record
    step = f"Step *{words(record.name) or 'without a name'}*" if record else "The pipeline's validation"
    task = f" ({words(str(record.task))})" if record and record.task else ""
    return (
        f"{step}{task}, {_line(finding.run, evidence)}; rule {words(match.rule)}:\n\n{fenced(match.excerpt)}"
    )


def _line(run: Run, evidence: Evidence) -> str:
    """Return where the line stands, as a link to the log when the log can be opened there."""
    record, line = evidence.record, evidence.match.line
    if evidence.source != "log" or record is None:
        return "among the errors on the run's page"
    where = f"line {line} of its log"
    if run.ref.kind == "release":
        return f"[{where}]({run.url})"
    if not (record.parent_id and _GUID.fullmatch(record.id) and _GUID.fullmatch(record.parent_id)):
        return where
    return f"[{where}]({run.url}&view=logs&j={record.parent_id}&t={record.id}&l={line})"
