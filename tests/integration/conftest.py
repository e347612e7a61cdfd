"""Real servers as fixtures: private instances that end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.certificates import LocalAuthority
from support.dovecot import PrivateDovecot
from support.postfix import PrivatePostfix


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
