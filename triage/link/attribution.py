"""Best evidence first; each connection is verified to exist in the project, never believed of a text."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from triage.domain import Attribution, Candidate, LinkMethod
from triage.link import by_project, by_step, identifiers, named, task_inputs
from triage.link.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triage.azdo import Door
    from triage.domain import Connection, Evidence, Match, Run, TimelineRecord

_LINK = re.compile(r"_settings/adminservices\?resourceId=(" + identifiers.GUID.pattern + ")", re.IGNORECASE)


def attribute(door: Door, run: Run, evidences: Sequence[Evidence]) -> list[tuple[Evidence, Attribution]]:
    """Return each piece of evidence with its connection, or with the candidates for it."""
    sources = Sources(door, run)
    return [(evidence, _one(sources, evidence)) for evidence in evidences]


def _one(sources: Sources, evidence: Evidence) -> Attribution:
    match, record = evidence.match, evidence.record
    if evidence.source == "validation":
        return _by_validation(sources, match)
    if record is not None and task_inputs.is_script(record.task):
        return (
            _by_message(sources, match, record, None)
            or by_step.earlier(sources, match, record)
            or by_project.script(sources, match, record)
        )
    by_input = by_step.own(sources, match, record)
    if found := _by_message(sources, match, record, by_input):
        return found
    if by_input is None or by_input.connection is None:
        by_input = _by_debug_lines(sources, match, record) or by_input
    return by_input or by_project.step(sources, match, record)


def _by_validation(sources: Sources, match: Match) -> Attribution:
    told = [c for c in sources.connections if identifiers.is_named(c, match)]
    reason = "The pipeline did not start, so it used no connection."
    candidates = tuple(Candidate(c, "the pipeline's validation names it") for c in told)
    return Attribution(None, LinkMethod.UNDECIDED, reason, candidates)


def _by_message(
    sources: Sources, match: Match, record: TimelineRecord | None, by_input: Attribution | None
) -> Attribution | None:
    """A GUID in the message counts only when the run is known to have used that connection."""
    link = _LINK.search(match.excerpt)
    text = (match.captures.get("connection_id") or (link[1] if link else "")).lower()
    if not identifiers.GUID.fullmatch(text):
        return None
    task = record.task if record else None
    known_task = task is not None and bool(task_inputs.inputs(task))
    connection = next((c for c in sources.connections if c.id == text), None)
    if connection is None:
        if by_input is not None or not known_task:
            return None
        reason = f"The message names the connection {text}, which this project does not have (any more)."
        return Attribution(None, LinkMethod.UNDECIDED, reason)
    if by_input and by_input.connection:
        return _agreed(by_input, by_input.connection, connection)
    return _unconfirmed(sources, connection, by_input, known_task=known_task)


def _unconfirmed(
    sources: Sources, connection: Connection, by_input: Attribution | None, *, known_task: bool
) -> Attribution:
    """Return what a connection's id in the message is worth when the step's inputs do not confirm it."""
    if sources.used(connection):
        reason = "The message names its id, and its execution history has this run."
        return Attribution(connection, LinkMethod.MESSAGE, reason, proven_use=True)
    if not known_task:
        # Anybody's script or test can print anybody's id; it is no proof of another one either.
        reason = f"The log shows the id of '{connection.name}', but nothing shows that this run used it."
        return Attribution(None, LinkMethod.UNDECIDED, reason)
    if (
        by_input
        and by_input.candidates
        and connection.id not in {c.connection.id for c in by_input.candidates}
    ):
        return by_input
    reason = "The message names its id; nothing else shows that this run used it."
    return Attribution(connection, LinkMethod.MESSAGE, reason)


def _agreed(by_input: Attribution, used: Connection, told: Connection) -> Attribution:
    """Return what the step's input and the message say together; the input wins."""
    if used.id != told.id:
        reason = f"{by_input.reason} The message names '{told.name}' instead; check both."
        return replace(by_input, reason=reason)
    reason = f"The message names its id, and {by_input.reason[:1].lower()}{by_input.reason[1:]}"
    return replace(by_input, method=LinkMethod.MESSAGE, reason=reason)


def _by_debug_lines(sources: Sources, match: Match, record: TimelineRecord | None) -> Attribution | None:
    if not match.connection_types:
        return None
    shown = sources.debug_ids(record)
    found = [c for c in sources.connections if c.id in shown and named.fits(c, match)]
    if len(found) != 1:
        return None
    reason = "The step's debug lines show that it was given this connection, and no other that fits."
    return Attribution(found[0], LinkMethod.DEBUG_LOG, reason)
