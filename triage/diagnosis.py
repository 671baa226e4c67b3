"""The story: one failed run, from its logs to the person who can renew the credential."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from triage import (
    applications,
    azdo,
    impact,
    link,
    logs,
    match,
    owner,
    plan,
    publish,
    record,
    renewal,
)
from triage.domain import Confidence, Evidence, Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Engine

    from triage.config import Settings
    from triage.domain import Attribution, Run, RunRef, TimelineRecord


@dataclass(frozen=True)
class Knowledge:
    """What every run is judged by; read once, shared by all workers."""

    pack: match.Pack
    recipes: renewal.RecipeBook
    owners: owner.OwnersFile | None
    fallback: owner.Fallback
    policy: plan.Policy
    pages_url: str
    own_secrets: tuple[str, ...] = field(default=(), repr=False)  # never shown, wherever they turn up
    memory: azdo.Memory = field(default_factory=azdo.Memory, repr=False, compare=False)
    applications: applications.Applications | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Conclusion:
    """What triage thinks of a run before it does anything."""

    run: Run
    logs_read: int
    findings: tuple[Finding, ...]
    sentence: str


def knowledge(settings: Settings) -> Knowledge:
    """Read the rule pack, the recipes and the owners file.

    Raises RulePackError or UsageError with every problem found.
    """
    return Knowledge(
        pack=match.load_pack(settings.rules.path),
        recipes=renewal.load(settings.rules.path),
        owners=owner.load_owners(settings.owners.file) if settings.owners.file else None,
        fallback=owner.Fallback(
            team=settings.owners.default_team,
            area=settings.owners.default_area,
            assignee=settings.owners.default_assignee,
        ),
        policy=plan.Policy.from_settings(
            settings.policy, settings.after_renewal, default_assignee=settings.owners.default_assignee
        ),
        pages_url=settings.pages_url,
        own_secrets=tuple(
            secret.get_secret_value()
            for secret in (
                *settings.azure_devops.secrets(),
                *settings.azure_devops.writer.secrets(),
                *settings.service_bus.credential.secrets(),
                settings.hook.password,
                settings.hook.header_value,
                settings.service_bus.connection_string,
            )
            if secret and secret.get_secret_value()
        ),
        applications=applications.from_settings(settings),
    )


def conclude(door: azdo.Door, known: Knowledge, ref: RunRef) -> Conclusion:
    """Read a run, find what broke it, whose it is and how it is renewed. Writes nothing."""
    run = door.run(ref)
    return _conclude(door, known, run, logs.fetch(door, run))


def _conclude(door: azdo.Door, known: Knowledge, run: Run, step_logs: Sequence[logs.StepLog]) -> Conclusion:
    searched = [(step, _search(known, step)) for step in step_logs]
    evidences = [found for step, result in searched if (found := _evidence(step, result))]
    cut = [sentence for _, result in searched for sentence in result.cut]
    findings = tuple(
        _finding(door, known, run, evidence, attribution)
        for evidence, attribution in link.attribute(door, run, evidences)
    )
    sentence = " ".join([_sentence(run, len(step_logs), findings), *dict.fromkeys(cut)])
    return Conclusion(run, len(step_logs), findings, sentence)


def _finding(
    door: azdo.Door, known: Knowledge, run: Run, evidence: Evidence, attribution: Attribution
) -> Finding:
    whose = owner.find(door, run, attribution, known.owners, known.fallback)
    connection, match_ = attribution.connection, evidence.match
    breaks = match_.verdict is not Verdict.LOOK_ALIKE and match_.confidence is not Confidence.HINT
    registered = known.applications.of(connection) if known.applications and connection and breaks else None
    recipe = renewal.choose(
        known.recipes, connection, match_, run, evidence.record, door.organization_url, whose, registered
    )
    return Finding(
        run=run,
        evidence=evidence,
        attribution=attribution,
        owner=whose,
        recipe=recipe,
        impact=impact.find(door, run, connection if breaks else None),
    )


def triage(door: azdo.Door, engine: Engine, known: Knowledge, run: Run) -> str:
    """Triage one run and plan what to do about it. Returns what came of it, in one sentence."""
    step_logs = logs.fetch(door, run)
    if said := _known_cause(engine, known, run, step_logs):
        return said
    concluded = _conclude(door, known, run, step_logs)
    record.run(engine, run, logs_read=concluded.logs_read, conclusion=concluded.sentence)
    for finding in concluded.findings:
        if plan.actionable(finding, known.policy) is not None:
            record.note(engine, finding)
            continue
        seen = _in_timeline(known, finding.evidence.record)
        record.finding(
            engine,
            finding,
            tag=plan.incident_tag(door.organization_url, plan.incident_key(finding)),
            title=publish.title(finding),
            fingerprint=plan.fingerprint(run, seen) if seen and seen.match.rule == finding.match.rule else "",
            policy=known.policy,
        )
    return concluded.sentence


def _known_cause(engine: Engine, known: Knowledge, run: Run, step_logs: Sequence[logs.StepLog]) -> str:
    """Return what broke a run when its timeline alone shows it; "" when its logs have to be read.

    During a storm this is what keeps triage from downloading the same message five thousand times.
    """
    seen = [_in_timeline(known, step.record) for step in step_logs]
    if not seen or None in seen:
        return ""
    earlier = record.same_cause(engine, [plan.fingerprint(run, each) for each in seen if each])
    said = f"Failed as other runs of its pipeline do, by what its timeline says: {seen[0].match.title}."  # type: ignore[union-attr]
    if earlier is None or not record.again(engine, run, earlier, conclusion=said, policy=known.policy):
        return ""
    return said


def _in_timeline(known: Knowledge, record: TimelineRecord | None) -> Evidence | None:
    """Return what the errors that the timeline keeps of a step prove."""
    step = logs.from_issues(record) if record else None
    return _evidence(step, _search(known, step)) if step else None


def _search(known: Knowledge, step: logs.StepLog) -> match.Search:
    return match.search(known.pack, step.open(), line_numbers=step.line_numbers, own=known.own_secrets)


def _evidence(step: logs.StepLog, result: match.Search) -> Evidence | None:
    """Return the one match that says most about why the step failed."""
    if not result.matches:
        return None
    best = max(result.matches, key=lambda each: each.strength)
    return Evidence(match=best, record=step.record, source=step.source)


def _sentence(run: Run, logs_read: int, findings: Sequence[Finding]) -> str:
    if not run.failed:
        return f"The run is {run.result} by now: nothing to do."
    read = "1 log of a failed step" if logs_read == 1 else f"{logs_read} logs of failed steps"
    if not findings:
        return f"Read {read}: no sign of an expired credential."
    told = "; ".join(
        f"{f.match.title} ({f.connection.name if f.connection else 'connection undecided'})" for f in findings
    )
    return f"Read {read}: {told}."
