"""What the fault tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.programs import ProgramLauncher


@pytest.fixture(scope="session")
def launcher() -> Iterator[ProgramLauncher]:
    """Forks programs; one for all tests, since its imports take a second."""
    with ProgramLauncher() as started:
        yield started
