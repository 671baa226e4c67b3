"""Which of the project's connections it can be, when the step names none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triage.domain import Attribution, Candidate, LinkMethod
from triage.link import definition, identifiers, named, resources
from triage.link.by_step import kinds, of_project

if TYPE_CHECKING:
    from triage.domain import Connection, Match, TimelineRecord
    from triage.link.sources import Sources

_ANYTHING = "generic"  # the type of a connection that can be to whatever


def script(sources: Sources, match: Match, record: TimelineRecord) -> Attribution:
    """A script may use a secret of its own, whatever connections the run used elsewhere."""
    fitting = [c for c in sources.connections if match.connection_types and named.fits(c, match)]
    application = identifiers.application(match)
    own = [
        c
        for c in fitting
        if application and c.parameters.get("serviceprincipalid", "").lower() == application
    ]
    if len(own) == 1:
        reason = f"The message shows its application, {application}, which only this connection has."
        return Attribution(own[0], LinkMethod.IDENTIFIER, reason)
    used = [c for c in fitting if sources.used(c)] if sources.may_ask_of(fitting) else []
    candidates = tuple(Candidate(c, "this run used it") for c in used) or of_project(sources, match)
    reason = f"Step '{record.name}' is a script: it may use a secret of its own."
    return Attribution(None, LinkMethod.UNDECIDED, reason, candidates)


def step(sources: Sources, match: Match, record: TimelineRecord | None) -> Attribution:
    """Return what history, the message or elimination tell of a step whose inputs tell nothing."""
    fitting = [c for c in sources.connections if named.fits(c, match)]
    if not match.connection_types:
        return _undecided(record, ())
    return (
        _by_history(sources, fitting, match, record)
        or _by_identifiers(fitting, match)
        or _by_elimination(sources, fitting, match, record)
    )


def _by_history(
    sources: Sources, fitting: list[Connection], match: Match, record: TimelineRecord | None
) -> Attribution | None:
    asked = fitting
    if not sources.may_ask_of(asked) and sources.usable:
        asked = [c for c in fitting if c.id in sources.usable]
    if not asked or not sources.may_ask_of(asked):
        return None
    used = [connection for connection in asked if sources.used(connection)]
    apart = identifiers.strongest(used, match)
    if len(apart) == 1 and len(used) > 1:
        reason = f"This run used it, and the message shows {identifiers.described(*apart[0])}."
        return Attribution(apart[0][0], LinkMethod.IDENTIFIER, reason, proven_use=True)
    left = _unexplained(sources, used, record)
    if len(left) == 1:
        others = ", and nothing else in the pipeline names it" if sources.steps else ""
        reason = f"Of the connections that can be meant ({kinds(match)}) this run used only this one{others}."
        if len(used) > 1:
            reason = "This run used it, and the others that it used are named elsewhere in the pipeline."
        return Attribution(left[0], LinkMethod.EXECUTION_HISTORY, reason, proven_use=True)
    if not used:
        return None
    candidates = tuple(Candidate(c, "this run used it") for c in used)
    step = f" for step '{record.name}'" if record else ""
    count = "a connection" if len(used) == 1 else f"{len(used)} connections"
    reason = f"The run used {count} that the message can be about, but nothing shows that it did so{step}."
    return Attribution(None, LinkMethod.UNDECIDED, reason, candidates)


def _unexplained(sources: Sources, used: list[Connection], record: TimelineRecord | None) -> list[Connection]:
    """Return the used connections that nothing else in the pipeline names, so that this step used them."""
    same = definition.matching(sources.steps, record) if record else []
    others = [each for each in sources.steps if each not in same]
    if any(c.type == "kubernetes" for c in used) and any(each.environment for each in others):
        return []  # an environment may have handed it to another step, which says nothing of it
    explained = {identity for each in others for identity in named.all_of(sources, each)}
    taken = resources.of_all_jobs(sources.pipeline, sources.resources)
    if sources.own_repository:
        taken.append(sources.own_repository)
    explained |= {c.id for each in taken for c in named.connections(sources, each.connection)}
    return [c for c in used if c.id not in explained]


def _by_identifiers(fitting: list[Connection], match: Match) -> Attribution | None:
    apart = identifiers.strongest(fitting, match)
    if len(apart) != 1:
        return None
    connection, signs = apart[0]
    reason = f"The message shows {identifiers.described(connection, signs)}, which only this connection has."
    return Attribution(connection, LinkMethod.IDENTIFIER, reason)


def _by_elimination(
    sources: Sources, fitting: list[Connection], match: Match, record: TimelineRecord | None
) -> Attribution:
    left, reach = fitting, "It is the project's only"
    if len(fitting) > 1 and sources.usable:
        left = [c for c in fitting if c.id in sources.usable] or fitting
        reach = "Of those that this pipeline may use it is the only"
    seen = bool(record and definition.matching(sources.steps, record))  # and it names none of them
    if len(left) == 1 and not seen and left[0].type != _ANYTHING:
        reason = f"{reach} connection that the message can be about ({kinds(match)})."
        return Attribution(left[0], LinkMethod.ONLY_CANDIDATE, reason)
    shown = tuple(Candidate(c, f"a {c.type} connection of this project") for c in left)
    return _undecided(record, shown)


def _undecided(record: TimelineRecord | None, candidates: tuple[Candidate, ...]) -> Attribution:
    where = f"Step '{record.name}'" if record else "The run"
    return Attribution(
        None, LinkMethod.UNDECIDED, f"{where} names no connection that the message can be about.", candidates
    )
