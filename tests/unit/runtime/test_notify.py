"""What is sent to `$NOTIFY_SOCKET`; the socket itself is tried in tests/e2e/test_service.py."""

from __future__ import annotations

import logging
import os
import re
from typing import Any

import pytest

from mailferry.runtime.notify import ServiceManager


class FakeSocket:
    """Keeps what is sent."""

    def __init__(self, *_: object) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.failure: OSError | None = None
        self.closed = False

    def setblocking(self, _flag: bool) -> None:
        """Datagrams to a manager that does not read must not hold up the mail."""

    def sendto(self, octets: bytes, address: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.sent.append((octets.decode(), address))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeSocket:
    made = FakeSocket()
    monkeypatch.setattr("mailferry.runtime.notify.socket.socket", lambda *_: made)
    return made


def test_each_word_is_one_datagram(fake: FakeSocket) -> None:
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": "/run/notify"})
    manager.ready("all\nis  well")
    manager.reloading()
    manager.status("busy")
    manager.alive()
    manager.extend(30)
    manager.stopping()
    manager.close()
    words = [text for text, _ in fake.sent]
    assert words[0] == "READY=1\nSTATUS=all is well", "a line end in a status would be another assignment"
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=[0-9]+", words[1])
    assert words[2:5] == ["STATUS=busy", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=30000000"]
    assert words[5].startswith("STOPPING=1\n")
    assert {address for _, address in fake.sent} == {"/run/notify"}
    assert fake.closed


def test_an_abstract_address_begins_with_a_nul(fake: FakeSocket) -> None:
    ServiceManager("@here").alive()
    assert fake.sent == [("WATCHDOG=1", "\0here")]


@pytest.mark.parametrize(
    "environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": "@"}]
)
def test_without_a_manager_nothing_is_sent(environ: dict[str, str], fake: FakeSocket) -> None:
    manager = ServiceManager.from_environment(environ)
    manager.ready("x")
    manager.close()
    assert not manager.listens
    assert fake.sent == []


def test_a_manager_that_has_gone_is_told_of_once(fake: FakeSocket, caplog: pytest.LogCaptureFixture) -> None:
    fake.failure = ConnectionRefusedError("nobody there")
    manager = ServiceManager("/run/notify")
    with caplog.at_level(logging.WARNING, "mailferry"):
        manager.alive()
        manager.alive()
    assert caplog.text.count("cannot be told WATCHDOG=1") == 1
    fake.failure = None
    manager.alive()
    assert len(fake.sent) == 1, "it is tried again"


def test_a_manager_that_was_busy_hears_later_that_all_is_ready(fake: FakeSocket) -> None:
    manager = ServiceManager("/run/notify")
    fake.failure = BlockingIOError("its queue is full")
    manager.ready("polling")
    manager.alive()
    fake.failure = None
    manager.alive()
    manager.alive()
    words = [text.partition("\n")[0] for text, _ in fake.sent]
    assert words == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "90000000"}, 90.0),
        ({"WATCHDOG_USEC": "90000000", "WATCHDOG_PID": str(os.getpid())}, 90.0),
        ({"WATCHDOG_USEC": "90000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_honoured_when_it_is_meant_for_us(
    environ: dict[str, str], seconds: float | None
) -> None:
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": "/run/notify", **environ})
    assert manager.watchdog_seconds == seconds
    assert ServiceManager.from_environment(environ).watchdog_seconds is None, "there is nobody to tell"
