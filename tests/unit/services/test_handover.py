from __future__ import annotations

import logging

import pytest

from mailferry.model import (
    Deferred,
    Delivered,
    Delivery,
    DeliveryReport,
    FetchedMessage,
    MaildropName,
    MessageId,
    Scope,
    Summary,
    Uidl,
)
from mailferry.services.handover import hand_over
from support.fakes import FakeDestination

MESSAGE = FetchedMessage(
    MaildropName("m"), MessageId(1), Uidl(b"u1"), b"", b"", b"", "", Summary(), 0.0, "", "POP3"
)
OK = DeliveryReport(Delivered("250"))


class Hasty(FakeDestination):
    """Answers, and then raises."""

    def submit(self, delivery: Delivery) -> None:
        delivery.done(OK)
        raise ValueError("a bug")


def test_an_answer_goes_through_and_the_rest_of_the_order_with_it() -> None:
    destination, said = FakeDestination("office", [], "now"), list[DeliveryReport]()
    hand_over(destination, Delivery(MESSAGE, said.append, frozenset({"x"}), 3))
    assert said == [DeliveryReport(Delivered("250 office"))]
    order = destination.submitted[0]
    assert (order.message, order.settled_recipients, order.attempt) == (MESSAGE, frozenset({"x"}), 3)


def test_an_exception_is_a_deferral_of_this_message(caplog: pytest.LogCaptureFixture) -> None:
    destination, said = FakeDestination("office", [], "now"), list[DeliveryReport]()
    destination.script[b"u1"] = [ValueError("a bug")]
    with caplog.at_level(logging.ERROR, "mailferry.bugs"):
        hand_over(destination, Delivery(MESSAGE, said.append))
    assert said == [DeliveryReport(Deferred(Scope.MESSAGE, "internal error: ValueError('a bug')"))]
    assert "message 1 for office" in caplog.text


def test_a_second_answer_is_told_and_dropped(caplog: pytest.LogCaptureFixture) -> None:
    destination, said = FakeDestination("office", [], "held"), list[DeliveryReport]()
    hand_over(destination, Delivery(MESSAGE, said.append))
    order = destination.held[0]
    with caplog.at_level(logging.ERROR, "mailferry.bugs"):
        order.done(OK)
        order.done(OK)
    assert said == [OK]
    assert "answered an order twice" in caplog.text


def test_who_answers_and_then_raises_has_answered(caplog: pytest.LogCaptureFixture) -> None:
    said: list[DeliveryReport] = []
    with caplog.at_level(logging.ERROR, "mailferry.bugs"):
        hand_over(Hasty("office", []), Delivery(MESSAGE, said.append))
    assert said == [OK]
    assert "a bug" in caplog.text
