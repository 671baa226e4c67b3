"""An incident keeps the whole recipe, not only its steps."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the steps into the recipe."""
    with op.batch_alter_table("incident", schema=None) as batch_op:
        batch_op.add_column(sa.Column("renewal", sa.String(), nullable=False, server_default="{}"))
    op.execute("UPDATE incident SET renewal = '{\"steps\": ' || steps || '}'")
    with op.batch_alter_table("incident", schema=None) as batch_op:
        batch_op.alter_column(
            "renewal", existing_type=sa.String(), existing_nullable=False, server_default=None
        )
        batch_op.drop_column("steps")


def downgrade() -> None:
    """Keep no steps: SQL alone cannot take them out of the recipe on both databases."""
    with op.batch_alter_table("incident", schema=None) as batch_op:
        batch_op.add_column(sa.Column("steps", sa.String(), nullable=False, server_default="[]"))
        batch_op.drop_column("renewal")
    with op.batch_alter_table("incident", schema=None) as batch_op:
        batch_op.alter_column(
            "steps", existing_type=sa.String(), existing_nullable=False, server_default=None
        )
