"""An index by which jobs are found that ended long ago."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_FINISHED = sa.text("finished_at IS NOT NULL")


def upgrade() -> None:
    """Make it."""
    op.create_index(
        "ix_job_finished", "job", ["finished_at"], postgresql_where=_FINISHED, sqlite_where=_FINISHED
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_job_finished", "job")
