"""Alembic's environment: runs on the connection that triage.db hands over."""

from alembic import context
from sqlmodel import SQLModel

from triage import db  # noqa: F401 - registers the tables

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
