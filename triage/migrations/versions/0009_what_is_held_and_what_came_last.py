"""Indexes for the acts that a worker holds, and for the last event of each source."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_HELD = sa.text("lease IS NOT NULL")


def upgrade() -> None:
    """Make them."""
    op.create_index("ix_effect_held", "effect", ["lease"], postgresql_where=_HELD, sqlite_where=_HELD)
    op.create_index("ix_delivery_source_id", "delivery", ["source", "id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_delivery_source_id", "delivery")
    op.drop_index("ix_effect_held", "effect")
