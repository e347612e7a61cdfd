"""An empty ledger for each test, copied from one that was made once."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailferry.events import Event
from mailferry.ledger import SqlLedger, open_ledger


def url_of(directory: Path) -> str:
    return f"sqlite:///{directory / 'ledger.sqlite3'}"


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger file with tables and no rows: to run the migrations each time takes too long."""
    directory = tmp_path_factory.mktemp("ledger")

    async def create() -> None:
        ledger = await open_ledger(
            url_of(directory), journal_path=directory / "ledger.journal", emit=lambda event: None
        )
        await ledger.close()

    asyncio.run(create())
    return directory / "ledger.sqlite3"


@pytest.fixture
def state_dir(tmp_path: Path, empty_ledger: Path) -> Path:
    for file in empty_ledger.parent.glob("ledger.sqlite3*"):  # with its copy and its log of changes
        shutil.copy(file, tmp_path)
    return tmp_path


@pytest.fixture
def url(state_dir: Path) -> str:
    return url_of(state_dir)


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
async def ledger(url: str, state_dir: Path, events: list[Event]) -> AsyncIterator[SqlLedger]:
    opened = await open_ledger(url, journal_path=state_dir / "ledger.journal", emit=events.append)
    yield opened
    await opened.close()
