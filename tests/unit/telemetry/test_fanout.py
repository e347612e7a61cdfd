from __future__ import annotations

import logging

import pytest

from mailferry.events import DaemonStopped, DaemonStopping, Event
from mailferry.telemetry.fanout import fan_out

EVENT = DaemonStopped(clean=True)


def broken(event: Event) -> None:
    raise OSError(28, "No space left on device")


def test_every_sink_gets_every_event_in_turn() -> None:
    seen: list[tuple[str, Event]] = []
    emit = fan_out(lambda event: seen.append(("a", event)), lambda event: seen.append(("b", event)))
    emit(EVENT)
    assert seen == [("a", EVENT), ("b", EVENT)]


def test_a_broken_sink_harms_nobody_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Event] = []
    emit = fan_out(broken, seen.append, broken)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            emit(EVENT)
    assert seen == [EVENT] * 3
    assert len(caplog.records) == 2  # one for each broken sink
    assert "sink broken, event DaemonStopped" in caplog.records[0].getMessage()
    assert caplog.records[0].exc_info is not None
    assert "No space left" in str(caplog.records[0].exc_info[1])


def test_a_sink_that_failed_is_tried_again() -> None:
    seen: list[Event] = []

    def moody(event: Event) -> None:
        if event is EVENT:
            raise LookupError
        seen.append(event)

    emit = fan_out(moody)
    emit(EVENT)
    emit(DaemonStopping(signal="SIGTERM"))
    assert len(seen) == 1


def test_two_fan_outs_do_not_share_what_they_told(caplog: pytest.LogCaptureFixture) -> None:
    fan_out(broken)(EVENT)
    fan_out(broken)(EVENT)
    assert len(caplog.records) == 2


def test_cancelling_is_not_swallowed() -> None:
    def interrupted(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fan_out(interrupted)(EVENT)
