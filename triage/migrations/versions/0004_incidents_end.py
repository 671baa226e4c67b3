"""Incidents end, and may come back."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TIMES = ("last_failed_at", "checked_at", "closed_at", "reopened_at", "worked_at")
_TEXTS = ("closed_reason", "renewed_by")


def upgrade() -> None:
    """Add how and when; an incident's last failure is taken to be when it was seen last."""
    with op.batch_alter_table("incident") as table:
        for name in _TIMES:
            table.add_column(sa.Column(name, sa.DateTime(timezone=True), nullable=True))
        for name in _TEXTS:
            table.add_column(sa.Column(name, sa.String(), nullable=False, server_default=""))
        table.add_column(
            sa.Column("closed_by_person", sa.Boolean(), nullable=False, server_default=sa.false())
        )
    op.execute("UPDATE incident SET last_failed_at = last_seen_at")


def downgrade() -> None:
    """Forget it."""
    with op.batch_alter_table("incident") as table:
        for name in (*_TIMES, *_TEXTS, "closed_by_person"):
            table.drop_column(name)
