"""Real servers as fixtures: private instances that end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.certificates import LocalAuthority
from support.dovecot import PrivateDovecot
from support.postfix import PrivatePostfix
from support.processes import NO_REAL_SERVER


@pytest.fixture(scope="session")
def authority() -> LocalAuthority:
    """The only certificate authority that these tests trust."""
    return LocalAuthority()


@pytest.fixture
def dovecot(tmp_path: Path, authority: LocalAuthority) -> Iterator[PrivateDovecot]:
    """A running Dovecot without users."""
    with PrivateDovecot(tmp_path / "dovecot", authority=authority) as server:
        yield server


@pytest.fixture
def postfix(tmp_path: Path, authority: LocalAuthority) -> Iterator[PrivatePostfix]:
    """A running Postfix that offers STARTTLS."""
    with PrivatePostfix(tmp_path / "postfix", certificate=authority.good()) as server:
        yield server


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in capitals which real servers were not there: a skip is easily overlooked."""
    reasons = {str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())}
    missing = sorted({reason.split(NO_REAL_SERVER)[1] for reason in reasons if NO_REAL_SERVER in reason})
    for what in missing:
        name = what.strip(" :'\")")
        terminalreporter.write_line(f"{NO_REAL_SERVER}: {name.upper()}; ITS TESTS DID NOT RUN", red=True)
