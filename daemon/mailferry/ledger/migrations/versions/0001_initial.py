"""The first tables: message, delivery, standing.

A revision is history: it names its columns itself and never imports the present
schema.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create everything."""
    _create_message()
    op.create_table(
        "delivery",
        sa.Column("message_id", _IDENTITY, primary_key=True, autoincrement=False),
        sa.Column("destination", sa.Text(), primary_key=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("accepted_recipients", sa.Text(), nullable=False),
        sa.Column("refused_recipients", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"], ["message.message_id"], name="fk_delivery_message", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "standing",
        sa.Column("kind", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("last_success_at", sa.Double()),
        sa.Column("last_error_at", sa.Double()),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("consecutive_failures", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=False),
        sa.Column("login_delay_seconds", sa.Double(), nullable=False),
    )


def _create_message() -> None:
    op.create_table(
        "message",
        sa.Column("message_id", _IDENTITY, primary_key=True, autoincrement=False),
        sa.Column("maildrop", sa.Text(), nullable=False),
        sa.Column("uidl", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("size_octets", sa.BigInteger(), nullable=False),
        sa.Column("first_seen_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("header_digest", sa.LargeBinary(), nullable=False),
        sa.Column("content_digest", sa.LargeBinary(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("fetch_attempts", sa.Integer(), nullable=False),
        sa.Column("next_fetch_at", sa.Double(), nullable=False),
        sa.Column("accepted_at", sa.Double()),
    )
    there = sa.text("state <> 'gone'")
    op.create_index(
        "uq_message_uidl",
        "message",
        ["maildrop", "uidl"],
        unique=True,
        sqlite_where=there,
        postgresql_where=there,
    )
    op.create_index("ix_message_maildrop", "message", ["maildrop", "updated_at", "state"])
    op.create_index("ix_message_state", "message", ["state", "updated_at"])
    op.create_index("ix_message_updated", "message", ["updated_at"])
