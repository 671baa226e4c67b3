"""While Azure DevOps asks for patience, no process sends anything."""

import sqlalchemy as sa
from alembic import op

from triage.db import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keep until when an organisation is left alone."""
    op.create_table(
        "throttle",
        sa.Column("organization", sa.String(), nullable=False),
        sa.Column("closed_until", UtcDateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("organization", name=op.f("pk_throttle")),
    )


def downgrade() -> None:
    """Keep it no more."""
    op.drop_table("throttle")
