"""Indexes with which a claim and the pages stay quick, however long the history is."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_UNFINISHED = sa.text("finished_at IS NULL")


def upgrade() -> None:
    """Make them."""
    op.create_index(
        "ix_job_unfinished",
        "job",
        ["turn", "available_at", "id"],
        postgresql_where=_UNFINISHED,
        sqlite_where=_UNFINISHED,
    )
    op.drop_index("ix_job_available_at", "job")  # the one above is as good and shorter
    op.create_index("ix_run_triaged_at", "run", ["triaged_at"])
    op.create_index("ix_run_run_id", "run", ["run_id"])
    op.create_index("ix_incident_state_last_seen_at", "incident", ["state", "last_seen_at"])
    op.create_index("ix_finding_incident_id_id", "finding", ["incident_id", "id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_finding_incident_id_id", "finding")
    op.drop_index("ix_incident_state_last_seen_at", "incident")
    op.drop_index("ix_run_run_id", "run")
    op.drop_index("ix_run_triaged_at", "run")
    op.create_index("ix_job_available_at", "job", ["available_at"])
    op.drop_index("ix_job_unfinished", "job")
