"""The schema's history, told by Alembic; see triage.db."""
