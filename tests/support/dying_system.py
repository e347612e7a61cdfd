"""The operating system as a process sees it that is killed, or a disk that fails, at one of its calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

CALLS = ("open", "write", "fsync", "rename", "unlink", "mkdir")


class Killed(KeyboardInterrupt):
    """The process is no more: nothing that it would have done afterwards happens.

    An event loop lets only this and SystemExit out of a callback.
    """


class System:
    """Counts what is asked of the operating system, and dies or fails at one of the calls."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.die_at = 0
        self.fail_at = 0
        self.error = OSError()
        self._dead = False
        for name in CALLS:
            patch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            self._dead = self._dead or len(self.calls) == self.die_at
            if self._dead:
                raise Killed
            if len(self.calls) == self.fail_at:
                raise self.error
            return call(*arguments, **named)

        return watched
