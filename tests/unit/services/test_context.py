from __future__ import annotations

import time

import pytest

from mailferry.services.context import MessageIds


def test_message_ids_rise_and_fit_a_bigint() -> None:
    new_id = MessageIds()
    ids = [new_id() for _ in range(2000)]
    assert ids == sorted(set(ids))
    assert 0 < ids[-1] < 2**63


def test_message_ids_rise_though_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    new_id = MessageIds()
    before = new_id()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert new_id() == before + 1


def test_two_processes_that_start_in_one_microsecond_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000 * 10**9)
    assert len({MessageIds()() for _ in range(20)}) > 10
