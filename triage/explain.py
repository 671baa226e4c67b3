"""`triage explain`: the story of one run up to the decision, without a single write."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.markup import escape

from triage import azdo, config, db, diagnosis, impact, plan, publish, renewal
from triage.azdo import sign_in, urls
from triage.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from triage.domain import Finding


def run(run_url: str, *, form: Literal["text", "json"], token: str | None, rules_path: Path | None) -> None:
    """Print what triage would make of a run.

    Raises UsageError when the address is no run's page or no token is given.
    """
    settings = config.load(**({"rules": config.Rules(path=rules_path)} if rules_path else {}))
    section = settings.azure_devops
    if not token and not section.configured:
        raise UsageError(
            "No token to read the run with: give --token or set TRIAGE_AZURE_DEVOPS__TOKEN "
            "(scopes: Build read, Service connections read)."
        )
    door = azdo.connect(
        section.url or urls.organization_of_run(run_url),
        token or sign_in.from_settings(section),
        extra_hosts=section.extra_hosts,
    )
    known = diagnosis.knowledge(settings)
    concluded = diagnosis.conclude(door, known, door.parse_run_url(run_url))
    story = {
        "run": {
            "url": concluded.run.url,
            "number": concluded.run.number,
            "pipeline": concluded.run.pipeline_name,
            "project": concluded.run.project_name,
            "result": concluded.run.result,
        },
        "conclusion": concluded.sentence,
        "findings": [_finding(door, known, each) for each in concluded.findings],
    }
    if form == "json":
        print(json.dumps(story, indent=2))  # noqa: T201 - the command's output
    else:
        _tell(story)


def _finding(door: azdo.Door, known: diagnosis.Knowledge, found: Finding) -> dict[str, Any]:
    idle = plan.actionable(found, known.policy)
    key = plan.incident_key(found)
    first = plan.News(
        finding=found,
        title=publish.title(found),
        runs=(found.run,),
        pipelines=(),
        count=1,
        item_count=0,
        item_at=None,
        latest=found.run,
        newest=1,
    )
    actions = plan.decide(
        first,
        incident_id=0,
        incident_tag=plan.incident_tag(door.organization_url, key),
        work_item=None,
        now=db.now(),
        policy=known.policy,
        pages_url=known.pages_url,
    )
    connection, record = found.connection, found.evidence.record
    return {
        "rule": found.match.rule,
        "title": found.match.title,
        "credential": found.match.credential,
        "verdict": found.match.verdict.value,
        "confidence": found.match.confidence.value,
        "explanation": found.match.explanation,
        "step": record.name if record else None,
        "task": str(record.task) if record and record.task else None,
        "line": found.match.line,
        "evidence": found.match.excerpt,
        "connection": {
            "name": connection.name if connection else None,
            "type": connection.type if connection else None,
            "url": connection.url if connection else None,
            "method": found.attribution.method.value,
            "reason": found.attribution.reason,
            "candidates": [
                {"name": c.connection.name, "reason": c.reason} for c in found.attribution.candidates
            ],
        },
        "owner": {
            "assignee": found.owner.assignee,
            "team": found.owner.team,
            "method": found.owner.method.value,
            "reason": found.owner.reason,
        },
        "will_fail_next": impact.as_json(found.impact),
        "renewal": renewal.as_json(found.recipe),
        "would": [] if idle else [str(action) for action in actions],
        "would_not": idle,
    }


def plain(markdown: str) -> str:
    """Return a line of our own Markdown as a terminal shows it best: links written out, commands kept."""
    parts = re.split(r"((?<!\\)`[^`]*`)", markdown)
    return "".join(part if part.startswith("`") else _unmarked(part) for part in parts)


def _unmarked(markdown: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\(([^)]*)\)", r"\1 (\2)", markdown)
    text = re.sub(r"(?<!\\)[*]", "", text)
    return re.sub(r"\\([^\w\s])", r"\1", text)


def _tell(story: dict[str, Any]) -> None:
    out = Console(highlight=False, soft_wrap=True)
    run_ = story["run"]
    out.print(f"[bold]{escape(run_['pipeline'])} {escape(run_['number'])}[/] {escape(run_['result'])}")
    out.print(f"{escape(run_['url'])}\n\n{escape(story['conclusion'])}")
    for found in story["findings"]:
        where = found["step"] or "the pipeline's validation"
        task = f" ({found['task']})" if found["task"] else ""
        connection, owner = found["connection"], found["owner"]
        name = connection["name"] or "not decided"
        who = owner["assignee"] or owner["team"] or "nobody"
        out.print(f"\n[bold]{escape(found['title'])}[/] – {found['verdict']}, {found['confidence']}")
        if found["explanation"]:
            out.print(f"  {escape(found['explanation'])}")
        out.print(f"  [dim]evidence[/]    {escape(where)}{escape(task)}, line {found['line']}:")
        out.print(f"              {escape(found['evidence'])}")
        out.print(f"  [dim]connection[/]  {escape(name)}: {escape(connection['reason'])}")
        for candidate in connection["candidates"]:
            out.print(f"              perhaps {escape(candidate['name'])}: {escape(candidate['reason'])}")
        out.print(f"  [dim]owner[/]       {escape(who)}: {escape(owner['reason'])}")
        _tell_next(out, found["will_fail_next"])
        _tell_renewal(out, found["renewal"])
        for would in found["would"]:
            out.print(f"  [dim]would[/]       {escape(would)}")
        if found["would_not"]:
            out.print(f"  [dim]would do nothing:[/] {escape(found['would_not'])}")


def _tell_next(out: Console, told: dict[str, Any]) -> None:
    for pipeline in told["pipelines"]:
        out.print(f"  [dim]fails next[/]  {escape(pipeline['name'])} ({escape(pipeline['url'])})")
    if told["pipelines"] and told["others"]:
        out.print(f"              and {told['others']}")


def _tell_renewal(out: Console, told: dict[str, Any]) -> None:
    _tell_line(out, "renewal", told["title"])
    for link in told["links"]:
        out.print(f"              {escape(link['title'])}: {escape(link['url'])}")
    for warning in told["warnings"]:
        out.print(f"              [yellow]![/] {escape(plain(warning))}")
    _tell_steps(out, told["steps"])
    if len(told["command_line"]) == 1:
        _tell_line(out, "by command", told["command_line"][0])
    elif told["command_line"]:
        _tell_line(out, "by command", "the same from the command line:")
        _tell_steps(out, told["command_line"])
    _tell_line(out, "who may", " ".join(told["permissions"]))
    for label, key in (("to check", "verify"), ("meanwhile", "meanwhile"), ("again in", "interval")):
        _tell_line(out, label, told[key])
    for alternative in told["alternatives"]:
        _tell_line(out, "instead", alternative["title"])
        _tell_steps(out, alternative["steps"])
    _tell_line(out, "instead", told["no_alternative"])
    _tell_line(out, "sources", " ".join(told["references"]))


def _tell_line(out: Console, label: str, text: str) -> None:
    if text:
        out.print(f"  [dim]{label}[/]{'':{12 - len(label)}}{escape(plain(text))}")


def _tell_steps(out: Console, steps: list[str]) -> None:
    for number, step in enumerate(steps, 1):
        out.print(f"              {number}. {escape(plain(step))}")
