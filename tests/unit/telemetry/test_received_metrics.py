"""Mail that came by SMTP is counted, and makes no maildrop that nobody polls."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from mailferry.events import MessageRelayed
from mailferry.telemetry.metrics import Metrics


@pytest.mark.parametrize("each", [True, False])
def test_received_mail_is_no_maildrop(each: bool) -> None:
    registry = CollectorRegistry()
    metrics = Metrics(
        registry, maildrops=["alice"], destinations=["office"], etrn_nodes=[], version="1", per_maildrop=each
    )
    metrics.count_received()
    labels = {"maildrop": "receiver", "outcome": "relayed"}
    assert registry.get_sample_value("mailferry_messages_total", labels) == 0
    metrics.observe(
        MessageRelayed(
            "receiver",
            "s1",
            "smtp x",
            100,
            "a",
            "b",
            "hi",
            destination="office",
            attempt=1,
            receipt="",
            age_seconds=0.0,
        )
    )
    assert registry.get_sample_value("mailferry_messages_total", labels) == 1
    assert registry.get_sample_value("mailferry_message_octets_total", {"maildrop": "receiver"}) == 100
    polled = registry.get_sample_value("mailferry_polls_total", {"maildrop": "receiver", "result": "ok"})
    assert polled is None
    states = [
        registry.get_sample_value("mailferry_maildrops", {"state": state}) or 0
        for state in ("ok", "unpolled", "failing", "refused", "paused")
    ]
    assert sum(states) == 1
