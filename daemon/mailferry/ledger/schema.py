"""The ledger's tables as the present program uses them.

What creates and changes them stands in `migrations/`; a test holds the two
equal. Columns come in the order of the fields of `mailferry.model`, so that a
row becomes a record by position; behind them comes `noted`.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

HEAD: Final = "0004"
"""The newest revision under `migrations/versions/`; revisions are numbers that rise."""

VERSION_TABLE: Final = "ledger_version"
"""Not Alembic's default name: another program's migrations may live in the same database."""

METADATA: Final = MetaData()


def _noted() -> Column[int]:
    """The number of the journal's last note when the row was ordered; 0 where nobody knows.

    A note with a higher number says something newer than the row, whatever the
    clock did meanwhile.
    """
    return Column("noted", BigInteger, nullable=False, server_default="0")


# Only INTEGER is the row's own key in SQLite; PostgreSQL needs BIGINT for 63 bits.
_IDENTITY: Final = BigInteger().with_variant(Integer(), "sqlite")

NOT_GONE: Final = text("state <> 'gone'")
"""A literal, not a bound value: only so does a planner see that the partial index serves."""

RECEIVED: Final = text("maildrop = 'receiver'")
"""Mail that came by SMTP; a literal for the same reason."""

MESSAGE: Final = Table(
    "message",
    METADATA,
    Column("message_id", _IDENTITY, primary_key=True, autoincrement=False),
    Column("maildrop", Text, nullable=False),
    Column("uidl", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("size_octets", BigInteger, nullable=False),
    Column("first_seen_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("header_digest", LargeBinary, nullable=False),
    Column("content_digest", LargeBinary, nullable=False),
    Column("sender", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("fetch_attempts", Integer, nullable=False),
    Column("next_fetch_at", Double, nullable=False),
    Column("accepted_at", Double),
    _noted(),
    # RFC 1939 s.7: a server should not, but may, use a unique-id again once its
    # message is gone; so a UIDL is unique only among those that are still there.
    Index(
        "uq_message_uidl", "maildrop", "uidl", unique=True, sqlite_where=NOT_GONE, postgresql_where=NOT_GONE
    ),
    Index("ix_message_maildrop", "maildrop", "updated_at", "state"),
    Index("ix_message_state", "state", "updated_at"),
    Index("ix_message_updated", "updated_at"),
    # Also what is gone: a sender that never read our 250 brings a message again.
    Index("ix_message_received", "maildrop", "uidl", sqlite_where=RECEIVED, postgresql_where=RECEIVED),
)

DELIVERY: Final = Table(
    "delivery",
    METADATA,
    Column(
        "message_id",
        _IDENTITY,
        ForeignKey("message.message_id", name="fk_delivery_message", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("destination", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("receipt", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("accepted_recipients", Text, nullable=False),
    Column("refused_recipients", Text, nullable=False),
    _noted(),
)

STANDING: Final = Table(
    "standing",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("last_success_at", Double),
    Column("last_error_at", Double),
    Column("last_error", Text, nullable=False),
    Column("consecutive_failures", Integer, nullable=False),
    Column("not_before", Double, nullable=False),
    Column("login_delay_seconds", Double, nullable=False),
    Column("last_attempt_at", Double),
    Column("last_reply", Text, nullable=False, server_default=""),
    _noted(),
)

POSITION: Final = Table(
    "ledger_position",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("noted", BigInteger, nullable=False),
)
"""One row, changed by every transaction: the number of the last change, and the highest
number of a note that a row has. A copy and a log of changes fit each other by it."""

MESSAGE_FIELDS: Final = tuple(MESSAGE.c)[:-1]
DELIVERY_FIELDS: Final = tuple(DELIVERY.c)[:-1]
STANDING_FIELDS: Final = tuple(STANDING.c)[:-1]
"""The columns that make a record."""
