"""What the failed step itself, the resources it takes, or the steps before it name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from triage.domain import Attribution, Candidate, LinkMethod
from triage.link import definition, identifiers, named, resources, task_inputs, terraform

if TYPE_CHECKING:
    from triage.domain import Connection, Match, TimelineRecord
    from triage.link.definition import Step
    from triage.link.named import Named, Way
    from triage.link.resources import Resource
    from triage.link.sources import Sources
    from triage.link.task_inputs import Input

_TODAY = " The YAML of the run is gone; this is the pipeline as it is written today."
_CHANGED = " That was changed since the run began."


def own(sources: Sources, match: Match, record: TimelineRecord | None) -> Attribution | None:
    """Return the connection that the step's inputs or its resources name; None when they name none."""
    if record is None:
        return None
    by_resource = _by_resource(sources, match, record)
    if by_resource is not None or record.task is None:
        return by_resource
    told = named.of_step(sources, record, record.task, match)
    if terraform.reads_state(definition.matching(sources.steps, record), match):
        terraform.take_back_ends(told, sources, _before(sources, record))
    fitting = [value for value in told.connections.values() if named.fits(value[0], match)]
    if len(fitting) == 1 and not told.is_open:
        return _input(sources, *fitting[0], record, match)
    if told.connections or told.missing or told.is_open:
        return _among(sources, fitting, told, match, record)
    return _names_none(sources, match, record) if told.found else None


def earlier(sources: Sources, match: Match, record: TimelineRecord) -> Attribution | None:
    """Authenticate and login tasks leave their connection's credential to the steps after them."""
    if not match.connection_types:
        return None
    found: dict[str, tuple[Connection, Step]] = {}
    for step in _before(sources, record):
        command = step.inputs.get("command", "")
        if task_inputs.hands_over(step.task_id, command):
            fitting = [c for c in _handed_over(sources, step) if named.fits(c, match)]
            found |= {c.id: (c, step) for c in fitting}
        elif task_inputs.takes_back(step.task_id, command):
            for connection in _handed_over(sources, step):
                found.pop(connection.id, None)
    if not found:
        return None
    apart = identifiers.strongest([c for c, _ in found.values()], match)
    if len(found) > 1 and len(apart) != 1:
        candidates = tuple(
            Candidate(c, f"step '{step.title}' hands it to the steps after it") for c, step in found.values()
        )
        reason = f"Earlier steps of the job hand over {len(found)} connections that the message can be about."
        return Attribution(None, LinkMethod.UNDECIDED, reason, candidates)
    connection, step = found[apart[0][0].id] if len(apart) == 1 else next(iter(found.values()))
    reason = f"Step '{step.title}' of the same job hands its credential to the steps after it."
    # A script may all the same use a secret of its own.
    proven = not task_inputs.is_script(record.task)
    handed = Attribution(connection, LinkMethod.EARLIER_STEP, reason, proven_use=proven)
    is_changed = any(sources.is_changed(step, name) for each in _inputs(step) for name in each.names)
    return _sure(sources, handed, match, is_changed=is_changed)


def _input(
    sources: Sources, connection: Connection, way: Way, record: TimelineRecord, match: Match, more: str = ""
) -> Attribution:
    reason = f"Step '{record.name}' ({record.task}) {way.phrase}{more}."
    found = Attribution(connection, way.method, reason, proven_use=True)
    return _sure(sources, found, match, is_changed=way.is_changed)


def _sure(sources: Sources, found: Attribution, match: Match, *, is_changed: bool = False) -> Attribution:
    """Hold what is only known as it is today against the history: pipelines change, and so do groups."""
    if found.connection is None or not (is_changed or sources.is_of_today):
        return found
    reason = found.reason + (_TODAY if sources.is_of_today else _CHANGED)
    if sources.may_ask_of([found.connection]) and sources.used(found.connection):
        return replace(found, reason=f"{reason} The connection's execution history has this run.")
    fitting = [c for c in sources.connections if named.fits(c, match)]
    used = [c for c in fitting if sources.used(c)] if sources.may_ask_of(fitting) else []
    if not used and not is_changed:
        return replace(found, reason=reason, proven_use=False)
    candidates = (
        *(Candidate(c, "this run used it") for c in used),
        Candidate(found.connection, "the pipeline names it today"),
    )
    told = f"The step names '{found.connection.name}' today, but what says so was changed since the run began"
    if used:
        told = f"The pipeline names '{found.connection.name}' today, but this run used {_quoted(used)}"
    return Attribution(None, LinkMethod.UNDECIDED, f"{told}.", candidates)


def _quoted(connections: list[Connection]) -> str:
    return " and ".join(f"'{each.name}'" for each in connections)


def _among(
    sources: Sources,
    fitting: list[tuple[Connection, Way]],
    told: Named,
    match: Match,
    record: TimelineRecord,
) -> Attribution:
    """Choose among what a step names, when the message or the history allows it."""
    apart = identifiers.strongest([c for c, _ in fitting], match)
    if len(apart) == 1 and not told.is_open:
        connection, signs = apart[0]
        way = next(way for c, way in fitting if c.id == connection.id)
        shown = identifiers.described(connection, signs)
        return _input(sources, connection, way, record, match, f", and the message shows {shown}")
    if len(fitting) > 1 and not told.is_open and sources.may_ask_of([c for c, _ in fitting]):
        used = [(c, way) for c, way in fitting if sources.used(c)]
        if len(used) == 1:
            more = "; of those that it can name only this one's execution history has the run"
            return _input(sources, *used[0], record, match, more)
    candidates = tuple(
        Candidate(c, f"step '{record.name}' {way.phrase}")
        for c, way in (fitting or list(told.connections.values()))
    )
    return Attribution(
        None,
        LinkMethod.UNDECIDED,
        _open(sources, told, match, record, len(fitting)),
        candidates or of_project(sources, match),
    )


def _open(sources: Sources, told: Named, match: Match, record: TimelineRecord, fitting: int) -> str:
    """Return why what a step names does not decide."""
    step = f"Step '{record.name}'"
    if told.unknown:
        return f"{step} names {told.unknown[0]}, whose value triage cannot see."
    if told.unseen:
        return f"{step} {told.unseen[0]}."
    if not told.connections:
        return f"{step} names '{told.missing[0]}', {_gone(sources, told.missing[0])}."
    if fitting:
        return f"{step} ({record.task}) uses {fitting} connections that the message can be about."
    about = f"another kind of credential ({kinds(match)})" if match.connection_types else "something else"
    if application := identifiers.application(match):
        about = f"the application {application}"
    elif registry := match.captures.get("registry"):
        about = f"the registry {registry}"
    return f"{step} names other connections: the message is about {about}."


def _gone(sources: Sources, name: str) -> str:
    if sources.is_newer_name(name):
        return "but the connection of this name was made after the run"
    return "which this project does not have"


def _names_none(sources: Sources, match: Match, record: TimelineRecord) -> Attribution | None:
    """A step that could name a connection and does not, takes its credential from elsewhere."""
    found = earlier(sources, match, record)
    if found is not None or record.task is None or not task_inputs.inputs(record.task):
        return found
    reason = f"Step '{record.name}' ({record.task}) names no connection; its credential comes from elsewhere."
    return Attribution(None, LinkMethod.UNDECIDED, reason, of_project(sources, match))


def _by_resource(sources: Sources, match: Match, record: TimelineRecord) -> Attribution | None:
    """Checkout and container steps use what the pipeline's resources or its repository name."""
    task = record.task
    if task is not None and task.id.lower() == task_inputs.CHECKOUT:
        steps = definition.matching(sources.steps, record)
        found = resources.of_checkout(
            sources.resources, sources.own_repository, steps, record, sources.run.repository_name
        )
    elif record.name.startswith("Initialize containers"):
        found = resources.of_job(sources.pipeline, sources.resources, record)
    elif task is None or not task_inputs.inputs(task):
        found = resources.of_download(sources.resources, record)
    else:
        return None
    return _resource(sources, found, match, record)


def _resource(
    sources: Sources, found: list[Resource], match: Match, record: TimelineRecord
) -> Attribution | None:
    step = f"Step '{record.name}'"
    told = {c.id: (c, each) for each in found for c in named.connections(sources, each.connection)}
    fitting = [(c, each) for c, each in told.values() if named.fits(c, match)]
    if len(fitting) > 1:
        apart = identifiers.strongest([c for c, _ in fitting], match)
        fitting = [(c, each) for c, each in fitting if [c] == [a for a, _ in apart]] or fitting
    if len(fitting) > 1:
        candidates = tuple(Candidate(c, f"the pipeline's {each.title} names it") for c, each in fitting)
        reason = f"{step} can have used {len(fitting)} connections that the pipeline's resources name."
        return Attribution(None, LinkMethod.UNDECIDED, reason, candidates)
    if fitting:
        connection, resource = fitting[0]
        what = "own repository is reached through it"
        if resource.alias != resources.SELF:
            what = f"{resource.title} names it"
        reason = f"{step} uses it: the pipeline's {what}."
        return _sure(sources, Attribution(connection, LinkMethod.RESOURCE, reason, proven_use=True), match)
    if found and not told:
        gone = _gone(sources, found[0].connection)
        reason = f"The pipeline's resources name '{found[0].connection}', {gone}."
        return Attribution(None, LinkMethod.UNDECIDED, reason)
    return None


def _inputs(step: Step) -> tuple[Input, ...]:
    """Return the inputs by which a step of its task can name a connection."""
    return task_inputs.inputs(task_inputs.as_task(step.task_id, step.major))


def _handed_over(sources: Sources, step: Step) -> list[Connection]:
    return [
        connection
        for each in _inputs(step)
        for name in each.names
        for connection in named.connections(sources, sources.value(step, name), multi=each.multi)
    ]


def _before(sources: Sources, record: TimelineRecord) -> list[Step]:
    """Return the steps of the record's job before it; all of them when the record is none of them."""
    steps = sources.steps
    path = {part.lower() for part in (record.identifier or "").split(".") if part}
    same = definition.matching(steps, record)
    # Each hook of a deployment, and each leg of a matrix, is a job of its own.
    jobs = {(s.stage, s.job, s.hook) for s in same or steps if same or s.job.lower() in path}
    told = {job for job in jobs if job[2].lower() in path}
    every = {(s.stage, s.job, s.hook) for s in steps}
    chosen = told or jobs or every
    if len(chosen) != 1:
        return []
    job = [s for s in steps if (s.stage, s.job, s.hook) in chosen]
    at = next((index for index, step in enumerate(job) if [step] == same), len(job))
    return job[:at]


def of_project(sources: Sources, match: Match) -> tuple[Candidate, ...]:
    """Return the project's connections that a message can be about; none when it can be about any."""
    fitting = [c for c in sources.connections if match.connection_types and named.fits(c, match)]
    return tuple(Candidate(c, f"a {c.type} connection of this project") for c in fitting)


def kinds(match: Match) -> str:
    """Return the types of connections that a message can be about, as a reason lists them."""
    *first, last = match.connection_types
    return f"{', '.join(first)} or {last}" if first else last
