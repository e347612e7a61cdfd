"""A reload that the daemon's end overtakes; the rest of it is tried in tests/e2e/test_reload.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mailferry.assembly.reload import STOPPING, Reloader
from mailferry.config.models import Settings
from mailferry.errors import ConfigError, ConfigProblem, StoreError
from mailferry.events import Event

SETTINGS = Settings.model_construct(maildrop={}, destination={}, etrn={})


class Surroundings:
    """A daemon that is asked to end while a reload reads."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.told: list[Event] = []
        self.supervisor = SimpleNamespace(stopping=False)
        self.verdicts: list[bool] = []
        self.around = SimpleNamespace(emit=self.told.append, ledger=self)
        self.metrics = SimpleNamespace(config_reloaded=lambda accepted, _at: self.verdicts.append(accepted))
        self.failure = failure

    def load(self) -> Settings:
        self.supervisor.stopping = True
        if isinstance(self.failure, ConfigError):
            raise self.failure
        return SETTINGS

    async def standings(self) -> dict[Any, Any]:
        if self.failure is not None:
            raise self.failure
        return {}


@pytest.mark.parametrize(
    "failure",
    [
        None,
        StoreError("the ledger is closed"),
        ConfigError([ConfigProblem("a.toml", "maildrop.ann.every", "must be a time")]),
    ],
)
async def test_an_end_in_the_middle_of_a_reload_is_no_fault_of_the_files(failure: Exception | None) -> None:
    daemon = Surroundings(failure)
    reload = Reloader(SETTINGS, daemon.load, cast("Any", daemon))  # Any: a fake
    report = await reload()
    assert (report.accepted, report.problems) == (False, (STOPPING,))
    assert daemon.told == []
    assert daemon.verdicts == [], "an alert would last until the next reload"
    assert reload.settings is SETTINGS
