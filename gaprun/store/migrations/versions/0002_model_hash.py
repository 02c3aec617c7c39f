"""Evaluations say which model they measured and on what kind of device; earlier rows do not know it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = ["run_id", "checkpoint_hash", "task", "data_fingerprint", "protocol", "options_hash", "definition"]


def upgrade() -> None:
    """Add `model_hash` to the key of an evaluation, and `device` beside it."""
    with op.batch_alter_table("evaluations") as table:
        table.add_column(sa.Column("model_hash", sa.String(), nullable=False, server_default=""))
        table.add_column(sa.Column("device", sa.String(), nullable=False, server_default=""))
        table.drop_constraint("uq_evaluations_key", type_="unique")
        table.create_unique_constraint("uq_evaluations_key", [*KEY, "model_hash"])
