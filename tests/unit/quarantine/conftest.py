from __future__ import annotations

from pathlib import Path

import pytest

from mailferry.quarantine.store import QuarantineStore

NOW = 1_780_000_100.0


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "state" / "quarantine"


@pytest.fixture
def store(place: Path) -> QuarantineStore:
    return QuarantineStore(place, lambda: NOW)
