"""The first schema: runs, evaluations, metrics, trajectory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _time(name: str, nullable: bool = True) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "runs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("recipe", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("seed", sa.BigInteger()),
        sa.Column("recipe_hash", sa.String(), nullable=False),
        sa.Column("resolved_recipe", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("error", sa.String()),
        _time("created", nullable=False),
        _time("started"),
        _time("finished"),
        _time("heartbeat"),
        sa.Column("host", sa.String()),
        sa.Column("pid", sa.BigInteger()),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("total_steps", sa.BigInteger(), nullable=False),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.Column("code_version", sa.String(), nullable=False),
        sa.Column("folder", sa.String(), nullable=False),
        sa.Column("checkpoint", sa.String()),
        sa.Column("checkpoint_hash", sa.String()),
        sa.Column("notes", sa.JSON()),
        sa.CheckConstraint(
            "status in ('queued', 'running', 'finished', 'failed', 'interrupted')",
            name=op.f("ck_runs_status"),
        ),
        sa.CheckConstraint("kind in ('train', 'external')", name=op.f("ck_runs_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index(op.f("ix_runs_recipe"), "runs", ["recipe"])
    op.create_index(op.f("ix_runs_recipe_hash"), "runs", ["recipe_hash"])
    op.create_table(
        "evaluations",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("checkpoint_hash", sa.String(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("data_fingerprint", sa.String(), nullable=False),
        sa.Column("protocol", sa.String(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("options_hash", sa.String(), nullable=False),
        sa.Column("definition", sa.BigInteger(), nullable=False),
        sa.Column("code_version", sa.String(), nullable=False),
        _time("created", nullable=False),
        sa.Column("details", sa.String()),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_evaluations_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluations")),
        sa.UniqueConstraint(
            "run_id",
            "checkpoint_hash",
            "task",
            "data_fingerprint",
            "protocol",
            "options_hash",
            "definition",
            name="uq_evaluations_key",
        ),
    )
    op.create_table(
        "metrics",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("evaluation_id", BIG_ID, nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("protocol", sa.String(), nullable=False),
        sa.Column("value", sa.Double()),
        sa.Column("n", sa.BigInteger()),
        sa.Column("d", sa.BigInteger()),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluations.id"], name=op.f("fk_metrics_evaluation_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_metrics_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metrics")),
        sa.UniqueConstraint("evaluation_id", "name", name="uq_metrics_name"),
    )
    op.create_index(op.f("ix_metrics_name"), "metrics", ["name"])
    op.create_index(op.f("ix_metrics_run_id"), "metrics", ["run_id"])
    op.create_table(
        "trajectory",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("samples_seen", sa.BigInteger()),
        sa.Column("epoch", sa.Double()),
        sa.Column("temperature", sa.Double()),
        sa.Column("logit_scale", sa.Double()),
        sa.Column("loss", sa.Double()),
        sa.Column("gap", sa.Double()),
        sa.Column("learning_rate", sa.Double()),
        sa.Column("matched_cosine", sa.Double()),
        sa.Column("mismatched_share", sa.Double()),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_trajectory_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "step", name=op.f("pk_trajectory")),
    )
