"""Hands an order to a destination so that it is answered exactly once, whatever happens.

The port promises that, but a fault in one adapter must not leave a poll waiting for
ever, nor give memory back twice.
"""

from __future__ import annotations

import logging

from mailferry.model import Deferred, Delivery, DeliveryReport, Scope
from mailferry.ports import Destination

_bugs = logging.getLogger("mailferry.bugs")


def hand_over(destination: Destination, delivery: Delivery) -> None:
    """Submit an order; an exception becomes a deferral of the message."""
    answered = False

    def done(report: DeliveryReport) -> None:
        nonlocal answered
        if answered:
            _bugs.error("destination %s answered an order twice: %s", destination.name, report.outcome)
            return
        answered = True
        delivery.done(report)

    try:
        destination.submit(delivery.answered_by(done))
    except Exception as error:  # noqa: BLE001  one message that trips a bug must not hold up the others
        _bugs.exception("message %s for %s", delivery.message.message_id, destination.name)
        if not answered:
            done(DeliveryReport(Deferred(Scope.MESSAGE, f"internal error: {error!r}")))
