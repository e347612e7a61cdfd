"""The contract, kept by SQLite."""

from __future__ import annotations

from support.ledger_contract import LedgerContract


class TestSqliteLedger(LedgerContract):
    """Every test of the contract."""
