"""The tables, and the engine that keeps them on SQLite or PostgreSQL."""

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import Field, Session, SQLModel, col, create_engine

from triage import faultpoint
from triage.errors import UsageError

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Engine

# Constraint names that migrations can refer to on both databases.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

_POOL = {"pool_size": 5, "max_overflow": 15, "pool_timeout": 5, "pool_pre_ping": True}
_CONNECT_SECONDS = 5
_LOOK_MILLISECONDS = 5  # who waits to write looks so often
_LOCKED_SECONDS = 30  # a writer of SQLite waits so long for another
# Ends what a client that vanished, or a query that never ends, holds up on the server.
_SESSION = "-c statement_timeout=30s -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s"


def now() -> datetime:
    """Return the present by this process's clock, in UTC: to tell people, not to compare.

    What another process decides by (when a job is due, when a lease ends) is `present()`.
    """
    return datetime.now(UTC)


class UtcDateTime(sa.TypeDecorator[datetime]):
    """A point in time; SQLite forgets the zone, so it is put back on reading."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Store UTC."""
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Read UTC; PostgreSQL answers in the zone of its session."""
        if value is None or value.tzinfo is not None:
            return value.astimezone(UTC) if value else None
        return value.replace(tzinfo=UTC)


class _Present(FunctionElement[datetime]):
    name = "present"
    type = UtcDateTime()
    inherit_cache = True


@compiles(_Present, "postgresql")
def _on_postgresql(element: _Present, compiler: Any, **keywords: Any) -> str:
    # Stable within a statement, so that an index can be searched by it.
    return f"(statement_timestamp() + make_interval(secs => {compiler.process(element.clauses, **keywords)}))"


@compiles(_Present, "sqlite")
def _on_sqlite(element: _Present, compiler: Any, **keywords: Any) -> str:
    seconds = compiler.process(element.clauses, **keywords)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', printf('%+.3f seconds', {seconds}))"


def present(seconds: float = 0) -> Any:
    """Return SQL for the present, or so many seconds later, by the database's clock.

    Workers on several machines share that clock and no other: theirs may be hours apart. May be compared
    with a column, or given as a row's value; it is evaluated when the statement is.
    """
    return _Present(sa.literal(float(seconds), sa.Float()))


def _time(**keywords: Any) -> Any:
    return Field(sa_type=UtcDateTime, **keywords)


EVENT_SOURCES = ("hook", "service-bus")


class Delivery(SQLModel, table=True):
    """One event that came in, understood or not. Holds no body."""

    __table_args__ = (sa.Index("ix_delivery_source_id", "source", "id"),)  # the last one of each source

    id: int | None = Field(default=None, primary_key=True)
    received_at: datetime = _time(default_factory=now, index=True)
    source: str  # one of EVENT_SOURCES, or sweep: a failed run that no event told of
    event_type: str = ""
    event_id: str = Field(default="", index=True)
    subscription_id: str = ""
    notification_id: int | None = None
    outcome: str  # queued, duplicate, ignored, refused
    reason: str = ""  # why ignored or refused, for people
    run_key: str = Field(default="", index=True)


_UNFINISHED, _FINISHED = sa.text("finished_at IS NULL"), sa.text("finished_at IS NOT NULL")


class Job(SQLModel, table=True):
    """Something waiting to be done, or done: a run to triage, an incident to tell of, a periodic round."""

    __table_args__ = (
        # What a claim searches: short and in its order, however many jobs are done.
        sa.Index(
            "ix_job_unfinished",
            *("turn", "available_at", "id"),
            postgresql_where=_UNFINISHED,
            sqlite_where=_UNFINISHED,
        ),
        # Of those that ended alone: else SQLite would search it for what has not, and then sort.
        sa.Index("ix_job_finished", "finished_at", postgresql_where=_FINISHED, sqlite_where=_FINISHED),
        sa.Index("ix_job_state_turn", "state", "turn"),  # the lowest turn that waits
        sa.Index("ix_job_project_state_turn", "project", "state", "turn"),  # a project's last one
    )
    __mapper_args__: ClassVar[dict[str, Any]] = {"eager_defaults": True}  # a claim reads its lease's end

    id: int | None = Field(default=None, primary_key=True)
    # A run: str(RunRef) + "@" + what tells two finishes of it apart. An incident: its id and the number
    # of its telling. A periodic round: its kind and the slot of time.
    key: str = Field(unique=True)
    kind: str = "build"  # see jobs.Kind
    project: str = ""  # "" for a round over the whole organisation
    run_id: int | None = Field(default=None, index=True)
    environment_id: int | None = None
    incident_id: int | None = Field(default=None, foreign_key="incident.id", index=True)
    state: str = "available"  # see jobs.State
    turn: int = 0  # projects take turns; the lowest is next
    available_at: datetime = _time(default_factory=now)
    created_at: datetime = _time(default_factory=now)
    finished_at: datetime | None = _time(default=None)
    attempts: int = 0  # failures; a snooze is none
    crashes: int = 0  # leases that ran out under a worker
    lease: str | None = None  # who holds it; every write of a worker names its lease
    lease_until: datetime | None = _time(default=None)
    outcome: str = ""  # one sentence: what came of it
    error: str = ""  # the last failure, in one sentence


class TriagedRun(SQLModel, table=True):
    """What triage concluded about one run, also when it found nothing."""

    __tablename__ = "run"

    id: int | None = Field(default=None, primary_key=True)
    run_key: str = Field(unique=True)  # str(RunRef)
    project_id: str = Field(index=True)
    project_name: str
    run_id: int = Field(index=True)
    number: str
    pipeline_id: int
    pipeline_name: str
    result: str
    url: str
    pull_request: int | None = None
    finished_at: datetime | None = _time(default=None)
    triaged_at: datetime = _time(default_factory=now, index=True)
    logs_read: int = 0
    conclusion: str = ""  # one sentence
    snapshot: str = ""  # the Run as JSON: to tell of it later without asking again


class Incident(SQLModel, table=True):
    """One credential that needs renewal, however many runs it breaks."""

    __table_args__ = (sa.Index("ix_incident_state_last_seen_at", "state", "last_seen_at"),)

    id: int | None = Field(default=None, primary_key=True)
    # Unique while open: a closed incident's key is renamed, so that the next one may take it.
    key: str = Field(unique=True)
    tag: str = Field(index=True)  # "triage-" + 12 hex digits; on the work item, to find it again
    state: str = Field(default="open", index=True)  # open, closed
    project_id: str = Field(index=True)
    project_name: str
    credential: str
    verdict: str
    confidence: str
    title: str
    connection_id: str | None = Field(default=None, index=True)
    connection_name: str | None = None
    connection_type: str | None = None
    connection_url: str | None = None
    owner: str | None = None
    owner_reason: str = ""
    recipe: str = ""
    renewal: str = "{}"  # the recipe as JSON, as renewal.as_json tells it: Markdown, placeholders filled in
    work_item: int | None = None
    work_item_url: str | None = None
    opened_at: datetime = _time(default_factory=now)
    last_seen_at: datetime = _time(default_factory=now, index=True)
    run_count: int = 0  # runs it broke
    snapshot: str = ""  # the Finding that opened it, as JSON
    tellings: int = 0  # begun so far; the next one's number
    told_finding: int = 0  # findings up to this id have been told to their runs and pull requests
    item_finding: int = 0  # and up to this one to the work item
    item_count: int = 0  # runs that the work item knows of
    item_at: datetime | None = _time(default=None)  # when triage wrote to it last
    last_failed_at: datetime | None = _time(default=None)  # when the last run it broke ended
    checked_at: datetime | None = _time(default=None)  # when triage looked last whether it works again
    closed_at: datetime | None = _time(default=None)
    closed_reason: str = ""  # one sentence: how it is known to work again
    closed_by_person: bool = False  # who may have meant that it is no such thing: nothing is opened again
    worked_at: datetime | None = _time(default=None)  # when the run began that showed it works again
    renewed_by: str = ""  # who changed the connection before it worked again, where that is known
    reopened_at: datetime | None = _time(default=None)  # it came back soon after it was closed


OPEN, ENDING, CLOSED = "open", "ending", "closed"  # states of an incident


def not_over() -> ColumnElement[bool]:
    """Return the condition that an incident is not closed, in a form that an index answers."""
    return col(Incident.state).in_((OPEN, ENDING))


class FindingRow(SQLModel, table=True):
    """A run's conclusion about one credential, with how each part is known."""

    __tablename__ = "finding"
    __table_args__ = (
        sa.UniqueConstraint("run_row", "rule", "incident_id"),
        sa.Index("ix_finding_incident_id_pipeline_id", "incident_id", "pipeline_id"),
        sa.Index("ix_finding_incident_id_id", "incident_id", "id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    run_row: int = Field(foreign_key="run.id", index=True)
    incident_id: int | None = Field(default=None, foreign_key="incident.id")
    pipeline_id: int = 0
    is_first_of_pipeline: bool = False  # the incident had not broken this pipeline before
    fingerprint: str = Field(default="", index=True)  # by which the timeline alone tells it again, see plan
    rule: str = Field(index=True)
    credential: str
    verdict: str
    confidence: str
    step: str  # display name of the failed record
    task: str = ""  # AzureCLI@2
    log_id: int | None = None
    line: int
    log_url: str = ""  # the line on the run's page; "" when the evidence is in no log
    excerpt: str  # masked
    link_method: str
    link_reason: str
    owner: str | None = None
    owner_method: str
    owner_reason: str
    recipe: str
    found_at: datetime = _time(default_factory=now)


_HELD = sa.text("lease IS NOT NULL")


class Effect(SQLModel, table=True):
    """One act on Azure DevOps: its intent is written before, its outcome after."""

    __table_args__ = (sa.Index("ix_effect_held", "lease", postgresql_where=_HELD, sqlite_where=_HELD),)

    id: int | None = Field(default=None, primary_key=True)
    key: str = Field(unique=True)  # see plan.key
    kind: str
    incident_id: int | None = Field(default=None, foreign_key="incident.id", index=True)
    run_key: str = Field(default="", index=True)
    state: str = "intended"  # intended, done, refused
    attempts: int = 0
    intended_at: datetime = _time(default_factory=now)
    done_at: datetime | None = _time(default=None)
    lease: str | None = None  # the worker at it; another waits
    lease_until: datetime | None = _time(default=None)
    remote_id: str | None = None
    url: str | None = None
    detail: str = ""


class Throttle(SQLModel, table=True):
    """Until when nothing may be sent to an organisation; see throttle.SharedGate."""

    organization: str = Field(primary_key=True)  # its URL, in lower case
    closed_until: datetime = _time()
    reason: str  # one sentence


class Cursor(SQLModel, table=True):
    """How far a project's failed runs have been swept."""

    project_id: str = Field(primary_key=True)
    swept_until: datetime = _time()


class Health(SQLModel, table=True):
    """How a part of triage that nobody looks at is doing."""

    component: str = Field(primary_key=True)  # hooks, inventory, credential test
    state: str  # ok, failing, refused
    since: datetime = _time(default_factory=now)
    checked_at: datetime = _time(default_factory=now)
    detail: str = ""  # for people
    work_item: int | None = None  # that says so


class Warned(SQLModel, table=True):
    """A credential that ends soon, and the one work item that says so."""

    key: str = Field(primary_key=True)  # connection:<id>, or own:<section of the settings>
    project_id: str  # of the work item
    name: str
    ends_at: datetime = _time()
    source: str  # see expiry.Source
    days: int  # the threshold of which its owner was told
    work_item: int
    told_at: datetime = _time(default_factory=now)


class SeenConnection(SQLModel, table=True):
    """A connection, or a credential of triage's own, as the last look at all of them saw it."""

    __tablename__ = "seen_connection"

    key: str = Field(primary_key=True)  # as Warned.key
    name: str
    type: str = ""  # "" of triage's own
    scheme: str = ""  # of triage's own: how it signs in
    creation: str = ""
    project_id: str = ""  # of the first place
    places: str = "[]"  # JSON: the projects that share it, each with the connection's page there
    is_disabled: bool = False
    created_at: datetime | None = _time(default=None)
    changed_at: datetime | None = _time(default=None)
    ends_at: datetime | None = _time(default=None)
    source: str  # see expiry.Source
    reason: str  # one sentence: how the end is known
    pipelines: str = "[]"  # JSON: names of those that used it lately, the last first; null: hidden
    last_used_at: datetime | None = _time(default=None)
    uses_asked_at: datetime | None = _time(default=None)  # None: never
    work_item: int | None = None  # that says that it ends soon
    work_item_url: str | None = None
    seen_at: datetime = _time(default_factory=now)


event.listen(Session, "before_commit", lambda _: faultpoint.reach("before commit"))
event.listen(Session, "after_commit", lambda _: faultpoint.reach("after commit"))


def open_engine(url: str) -> Engine:
    """Connect to the database at an SQLAlchemy URL.

    Raises UsageError when the URL is of another kind than SQLite or PostgreSQL.
    """
    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"timeout": _LOCKED_SECONDS, "check_same_thread": False})
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
        return engine
    if url.startswith(("postgresql://", "postgresql+psycopg://")):
        address = sa.make_url(url).set(drivername="postgresql+psycopg")
        ours = {"connect_timeout": _CONNECT_SECONDS, "tcp_user_timeout": 20_000, "options": _SESSION}
        own = {name: value for name, value in ours.items() if name not in address.query}  # the URL's win
        return create_engine(address, connect_args=own, **_POOL)
    kind = url.split(":", 1)[0]
    raise UsageError(f"database.url: {kind!r} is not supported; use sqlite:///… or postgresql://…")


def _on_sqlite_connect(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    _use_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")  # a 202 must survive a power loss
    connection.execute("PRAGMA foreign_keys=ON")


def _use_wal(connection: Any) -> None:
    """Let readers and a writer work side by side; SQLite itself does not wait when two set this at once."""
    end = time.monotonic() + _LOCKED_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > end:
                raise
        time.sleep(0.02)


def _on_sqlite_begin(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later would fail with "database is locked". One that
    # only reads says so, and waits for no writer.
    if connection.get_execution_options().get("triage_reads_only"):
        connection.exec_driver_sql("BEGIN")
        return
    # SQLite itself looks ever more seldom whether the other writer is done, in the end ten times a
    # second; who comes new overtakes who waits long.
    end = time.monotonic() + _LOCKED_SECONDS
    connection.exec_driver_sql(f"PRAGMA busy_timeout={_LOOK_MILLISECONDS}")
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
            except sa.exc.OperationalError as error:
                if not _is_busy(error.orig) or time.monotonic() > end:
                    raise
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={1000 * _LOCKED_SECONDS}")


def _is_busy(error: object) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorname == "SQLITE_BUSY"


def reader(engine: Engine) -> Engine:
    """Return the engine for transactions that only read: on SQLite they wait for no writer."""
    return engine.execution_options(triage_reads_only=True)


def clock(engine: Engine) -> datetime:
    """Return the present by the database's clock: to compare with what another machine wrote."""
    with Session(reader(engine)) as session:
        moment: datetime = session.exec(sa.select(present())).scalar_one()  # type: ignore[call-overload]
    return moment


def one_at_a_time(connection: sa.Connection, what: str) -> None:
    """Wait until no other transaction does the same; until this one ends, others wait."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer anyway
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(what, 0))))


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision; processes that start at once do so one after the other.

    Raises UsageError when the database cannot be reached or written, or a newer triage has made it.
    """
    config = _alembic()
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":  # a large table takes its time
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            one_at_a_time(connection, "triage: migrate")
            config.attributes["connection"] = connection
            _refuse_newer(connection, config)
            command.upgrade(config, "head")
    except (sa.exc.OperationalError, sa.exc.DBAPIError) as error:
        where = engine.url.render_as_string(hide_password=True)
        raise UsageError(f"The database {where} {_trouble(engine, error)}") from error


def _refuse_newer(connection: sa.Connection, config: Config) -> None:
    scripts = ScriptDirectory.from_config(config)
    there = MigrationContext.configure(connection).get_current_revision()
    if there is not None and there not in {each.revision for each in scripts.walk_revisions()}:
        where = connection.engine.url.render_as_string(hide_password=True)
        raise UsageError(
            f"The database {where} is of a newer triage: it is at revision {there}, and this one knows "
            f"{scripts.get_current_head()}. Start the newer triage, or restore the backup from before it."
        )


def _trouble(engine: Engine, error: sa.exc.DBAPIError) -> str:
    if engine.dialect.name == "postgresql":
        return (
            f"cannot be used: {str(error.orig).strip()}. Check that the server runs and that the user may "
            "log in and make tables there, or set database.url (TRIAGE_DATABASE__URL)."
        )
    return (
        f"cannot be opened for writing: {error.orig}. "
        "Check that its folder exists and can be written, or set database.url (TRIAGE_DATABASE__URL)."
    )


def revisions(engine: Engine) -> tuple[str | None, str | None]:
    """Return the schema's revision in the database, None before the first, and the newest there is."""
    with engine.connect() as connection:
        now_there = MigrationContext.configure(connection).get_current_revision()
    return now_there, ScriptDirectory.from_config(_alembic()).get_current_head()


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
