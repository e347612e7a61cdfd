"""What holds for all tests."""

from __future__ import annotations

import asyncio


def pytest_configure() -> None:
    """Let no event loop come into being by itself.

    Python up to 3.13 makes one when somebody asks for the current loop and there is none, as
    pytest-asyncio does before its first test. The next `asyncio.run` drops it unclosed, and some later test is
    blamed for that.
    """
    asyncio.set_event_loop(None)
