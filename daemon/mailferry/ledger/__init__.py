"""The state store on SQLAlchemy Core, its receipt journal and its migrations.

`open_ledger` is for the daemon, `open_reader` for commands that only look, `open_writer`
for those that change a few rows beside it.
Decisions 0003 (receipt journal) and 0004 (ledger shape) say why it is built so.
"""

from __future__ import annotations

from mailferry.ledger.queries import Counts, HistoryFilter, Standings
from mailferry.ledger.reader import LedgerReader, open_reader
from mailferry.ledger.store import SqlLedger, open_ledger
from mailferry.ledger.writer import LedgerWriter, open_writer

__all__ = [
    "Counts",
    "HistoryFilter",
    "LedgerReader",
    "LedgerWriter",
    "SqlLedger",
    "Standings",
    "open_ledger",
    "open_reader",
    "open_writer",
]
