"""What a request was and what was said to it: an ETRN node that is asked and refuses has no success."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the two columns; what was remembered before has neither."""
    op.add_column("standing", sa.Column("last_attempt_at", sa.Double()))
    op.add_column("standing", sa.Column("last_reply", sa.Text(), nullable=False, server_default=""))
