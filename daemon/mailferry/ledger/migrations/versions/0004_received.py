"""Mail that came in by SMTP is found by its identity, also when it is gone: it may be brought again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Index what came by SMTP; a ledger has none of it yet."""
    received = sa.text("maildrop = 'receiver'")
    op.create_index(
        "ix_message_received",
        "message",
        ["maildrop", "uidl"],
        sqlite_where=received,
        postgresql_where=received,
    )
