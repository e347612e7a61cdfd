from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mailferry.assembly.standing import overview
from mailferry.config import Settings, load_settings
from mailferry.model import StandingKind, StandingRecord
from support.configs import ConfigFolder

NOW = 1_000_000.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two maildrops, one of them disabled, and one SMTP destination."""
    folder = ConfigFolder(tmp_path)
    tables = {
        "maildrop.alice": folder.maildrop(1, "alice"),
        "maildrop.bob": folder.maildrop(1, "bob", enabled=False),
        "destination.hop": folder.smtp(1),
    }
    return load_settings(folder.write(tables), environ={})


def with_schedule(settings: Settings, **schedule) -> Settings:
    drops = {name: drop.model_copy(update=schedule) for name, drop in settings.maildrop.items()}
    return settings.model_copy(update={"maildrop": drops})


def state_of(settings: Settings, **record) -> str:
    found = StandingRecord(StandingKind.MAILDROP, "alice", **record)
    seen = overview(settings, {(StandingKind.MAILDROP, "alice"): found}, {}, NOW)
    return seen.maildrops[0].state


@pytest.mark.parametrize(
    ("age", "schedule", "delay", "state"),
    [
        (899, {"every": 300.0}, 0, "ok"),
        (901, {"every": 300.0}, 0, "late"),
        (299, {"every": 1.0}, 0, "ok"),  # a restart is no news
        (301, {"every": 1.0}, 0, "late"),
        (2000, {"every": 300.0}, 1000, "ok"),  # LOGIN-DELAY rules
        (90000, {"cron": "0 3 * * *"}, 0, "ok"),
    ],
)
def test_when_a_maildrop_is_late(settings, age, schedule, delay, state) -> None:
    found = state_of(
        with_schedule(settings, **schedule), last_success_at=NOW - age, login_delay_seconds=float(delay)
    )
    assert found == state


def test_a_failure_outranks_lateness(settings) -> None:
    assert state_of(settings, last_success_at=NOW - 1e5, consecutive_failures=1) == "failing"
    assert state_of(settings, consecutive_failures=1) == "failing"


@pytest.mark.parametrize(
    ("record", "state", "well"),
    [
        ({}, "untried", True),
        ({"last_success_at": NOW}, "open", True),
        ({"last_success_at": NOW, "consecutive_failures": 1, "not_before": NOW + 1}, "paused", False),
        ({"last_success_at": NOW, "consecutive_failures": 1, "not_before": NOW}, "probing", False),
    ],
)
def test_the_states_of_a_route(settings, record, state, well) -> None:
    found = StandingRecord(StandingKind.DESTINATION, "hop", **record)
    (place,) = overview(settings, {(StandingKind.DESTINATION, "hop"): found}, {}, NOW).destinations
    assert (place.state, place.well) == (state, well)


def test_what_is_not_configured_any_more_is_left_out(settings) -> None:
    old = StandingRecord(StandingKind.MAILDROP, "old", consecutive_failures=9)
    seen = overview(settings, {(StandingKind.MAILDROP, "old"): old}, {}, NOW)
    assert [drop.name for drop in seen.maildrops] == ["alice", "bob"]
    assert dataclasses.asdict(seen)["maildrops"][0]["state"] == "never polled"
