"""Jobs of every kind, incidents that are told of in turn, and how far a project is swept."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add what is new; a job's run key becomes its key."""
    with op.batch_alter_table("job") as table:
        table.drop_constraint("uq_job_run_key", type_="unique")
        table.drop_index("ix_job_state")
        table.alter_column("run_key", new_column_name="key", existing_type=sa.String())
    with op.batch_alter_table("job") as table:
        table.alter_column("run_id", existing_type=sa.Integer(), nullable=True)
        table.add_column(sa.Column("incident_id", sa.Integer(), nullable=True))
        table.add_column(sa.Column("turn", sa.Integer(), nullable=False, server_default="0"))
        table.create_unique_constraint("uq_job_key", ["key"])
        table.create_foreign_key("fk_job_incident_id_incident", "incident", ["incident_id"], ["id"])
        table.create_index("ix_job_run_id", ["run_id"])
        table.create_index("ix_job_incident_id", ["incident_id"])
        table.create_index("ix_job_project_state_turn", ["project", "state", "turn"])
        table.create_index("ix_job_state_turn", ["state", "turn"])
    with op.batch_alter_table("run") as table:
        table.add_column(sa.Column("snapshot", sa.String(), nullable=False, server_default=""))
    with op.batch_alter_table("incident") as table:
        table.add_column(sa.Column("snapshot", sa.String(), nullable=False, server_default=""))
        for name in ("run_count", "tellings", "told_finding", "item_finding", "item_count"):
            table.add_column(sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("item_at", _TIME, nullable=True))
    with op.batch_alter_table("finding") as table:
        table.drop_index("ix_finding_incident_id")
        table.add_column(sa.Column("pipeline_id", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(
            sa.Column("is_first_of_pipeline", sa.Boolean(), nullable=False, server_default=sa.false())
        )
        table.add_column(sa.Column("fingerprint", sa.String(), nullable=False, server_default=""))
        table.create_index("ix_finding_incident_id_pipeline_id", ["incident_id", "pipeline_id"])
        table.create_index("ix_finding_fingerprint", ["fingerprint"])
    op.execute(
        "UPDATE finding SET pipeline_id = (SELECT run.pipeline_id FROM run WHERE run.id = finding.run_row)"
    )
    op.execute(
        "UPDATE incident SET run_count = (SELECT count(DISTINCT run_row) FROM finding "
        "WHERE finding.incident_id = incident.id)"
    )
    op.execute(
        "UPDATE incident SET item_count = run_count, told_finding = coalesce((SELECT max(id) FROM finding "
        "WHERE finding.incident_id = incident.id), 0)"
    )
    op.execute("UPDATE incident SET item_finding = told_finding, item_at = last_seen_at")
    op.create_table(
        "cursor",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("swept_until", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("project_id", name="pk_cursor"),
    )
    op.create_table(
        "health",
        sa.Column("component", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("checked_at", _TIME, nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("work_item", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("component", name="pk_health"),
    )


def downgrade() -> None:
    """Forget what is new; jobs that are no run's go."""
    op.drop_table("health")
    op.drop_table("cursor")
    with op.batch_alter_table("finding") as table:
        table.drop_index("ix_finding_fingerprint")
        table.drop_index("ix_finding_incident_id_pipeline_id")
        for name in ("fingerprint", "is_first_of_pipeline", "pipeline_id"):
            table.drop_column(name)
        table.create_index("ix_finding_incident_id", ["incident_id"])
    with op.batch_alter_table("incident") as table:
        for name in (
            "item_at",
            "item_count",
            "item_finding",
            "told_finding",
            "tellings",
            "run_count",
            "snapshot",
        ):
            table.drop_column(name)
    with op.batch_alter_table("run") as table:
        table.drop_column("snapshot")
    op.execute("DELETE FROM job WHERE run_id IS NULL")
    with op.batch_alter_table("job") as table:
        table.drop_index("ix_job_state_turn")
        table.drop_index("ix_job_project_state_turn")
        table.drop_index("ix_job_incident_id")
        table.drop_index("ix_job_run_id")
        table.drop_constraint("fk_job_incident_id_incident", type_="foreignkey")
        table.drop_constraint("uq_job_key", type_="unique")
        table.drop_column("turn")
        table.drop_column("incident_id")
        table.alter_column("run_id", existing_type=sa.Integer(), nullable=False)
        table.alter_column("key", new_column_name="run_key", existing_type=sa.String())
    with op.batch_alter_table("job") as table:
        table.create_unique_constraint("uq_job_run_key", ["run_key"])
        table.create_index("ix_job_state", ["state"])
