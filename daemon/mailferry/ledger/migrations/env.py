"""Alembic's entry: the program hands over the connection, there is no alembic.ini."""

from __future__ import annotations

from alembic import context

from mailferry.ledger.schema import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    # SQLite cannot alter most things in place: later revisions copy the table.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
