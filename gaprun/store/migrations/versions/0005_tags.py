"""A run carries tags (separated and surrounded by spaces) and a note."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both, empty."""
    for name in ("tags", "note"):
        op.add_column("runs", sa.Column(name, sa.String(), nullable=False, server_default=""))
