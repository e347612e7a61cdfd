"""Numbers in place of times: which note a row knows of, and how far the ledger has come.

The first number of a ledger is the time in microseconds, so that the numbers of
one that was begun anew are never taken for those of the one before.
"""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column to each table, and the table of one row."""
    for table in ("message", "delivery", "standing"):
        op.add_column(table, sa.Column("noted", sa.BigInteger(), nullable=False, server_default="0"))
    position = op.create_table(
        "ledger_position",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("noted", sa.BigInteger(), nullable=False),
    )
    op.bulk_insert(position, [{"id": 1, "sequence": time.time_ns() // 1000, "noted": 0}])
