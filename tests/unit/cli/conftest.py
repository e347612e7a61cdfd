from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailferry.cli.main import main
from mailferry.ledger.store import SqlLedger
from mailferry.model import LedgerRecord
from support.configs import ConfigFolder


@dataclass(frozen=True)
class Ended:
    code: object
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the caller's shell sets must not decide a test."""
    for name in list(os.environ):
        if name.startswith("MAILFERRY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line, entered where the installed script enters it."""

    def run(*arguments: str | Path) -> Ended:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        return Ended(end.value.code or 0, output.out, output.err)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> ConfigFolder:
    return ConfigFolder(tmp_path)


@pytest.fixture
def config(folder: ConfigFolder) -> Path:
    """Two maildrops, one SMTP destination; nobody listens on these ports."""
    return folder.write(
        {
            "maildrop.alice": folder.maildrop(1, "alice"),
            "maildrop.bob": folder.maildrop(1, "bob", enabled=False, keep="14d"),
            "destination.hop": folder.smtp(1),
        }
    )


@pytest.fixture
def remember(folder: ConfigFolder) -> Callable[[Sequence[LedgerRecord]], None]:
    """Write rows into the ledger that the configuration names."""

    async def save(records: Sequence[LedgerRecord]) -> None:
        url = f"sqlite:///{folder.state / 'ledger.sqlite3'}"
        journal = folder.state / "receipts.journal"
        async with SqlLedger(url, journal_path=journal, emit=lambda _event: None) as ledger:
            await ledger.save(records)

    return lambda records: asyncio.run(save(records))
