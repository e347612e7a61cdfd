"""From a delivery to a transaction: the envelope, the trace field, and what a next hop cannot take."""

from __future__ import annotations

import email
from typing import Any

import pytest

from mailferry.destinations.letter import Envelope, Sender, compose
from mailferry.model import Deferred, Delivered, PermanentFailure, Scope
from mailferry.protocol.smtp_features import SmtpFeatures
from mailferry.protocol.smtp_transaction import Transaction
from support.deliveries import CONTENT, Reports

ALL = SmtpFeatures(eight_bit_mime=True, smtputf8=True)
RECIPIENTS = ("bob@example.org", "cyd@example.org")


def letter(content: bytes = CONTENT, features: SmtpFeatures = ALL, **more: Any) -> Transaction:
    result = compose_with(content, features, **more)
    assert isinstance(result, Transaction)
    return result


def compose_with(
    content: bytes = CONTENT,
    features: SmtpFeatures = ALL,
    *,
    sender: str = Sender.ORIGINAL,
    recipients: tuple[str, ...] = RECIPIENTS,
    original: str = "ann@example.org",
    came_for: tuple[str, ...] = (),
    settled: tuple[str, ...] = (),
) -> object:
    order = Reports().order(content=content, sender=original, recipients=came_for, settled=settled)
    return compose(order, Envelope(sender, recipients, "relay.example.net"), features)


def test_the_message_follows_one_received_field_and_loses_its_return_path() -> None:
    trace, content = letter().content
    assert trace.startswith(b"Received: from pop.example.org")
    assert b"by relay.example.net" in trace
    assert b"with POP3S" in trace
    assert content == b"Subject: hello\r\n\r\nhello\r\n.\r\n"


def test_the_size_is_that_of_what_is_sent() -> None:
    sent = letter()
    assert sent.size_octets == sum(map(len, sent.content))


@pytest.mark.parametrize(
    ("wanted", "sender"),
    [(Sender.ORIGINAL, "ann@example.org"), (Sender.NULL, ""), ("fixed@example.org", "fixed@example.org")],
)
def test_the_reverse_path_is_what_the_configuration_wants(wanted: str, sender: str) -> None:
    assert letter(sender=wanted).envelope_sender == sender


@pytest.mark.parametrize("odd", ["two words@example.org", '"<x>"@example.org', "a@b\r\nRCPT TO:<c@d>"])
def test_an_original_sender_that_cannot_be_written_becomes_the_null_one(odd: str) -> None:
    assert letter(original=odd).envelope_sender == ""


def test_settled_recipients_are_not_asked_again() -> None:
    assert letter(settled=RECIPIENTS[:1]).recipients == RECIPIENTS[1:]


def test_the_original_recipients_are_those_of_the_envelope_each_once() -> None:
    came_for = ("bob@example.org", "Bob@example.org", "bob@example.org", "cyd@example.org")
    assert letter(recipients=(), came_for=came_for).recipients == (came_for[0], came_for[1], came_for[3])
    settled = ("bob@example.org", "cyd@example.org")
    assert letter(recipients=(), came_for=came_for, settled=settled).recipients == ("Bob@example.org",)
    assert letter(came_for=("eve@example.org",)).recipients == RECIPIENTS


def test_without_an_envelope_there_are_no_original_recipients_and_the_message_is_kept() -> None:
    result = compose_with(recipients=())
    assert isinstance(result, Deferred)
    assert result.scope is Scope.MESSAGE
    assert result.attempted
    assert 'recipients = "original"' in result.reason


def test_when_all_original_recipients_are_settled_nobody_is_asked() -> None:
    assert isinstance(compose_with(recipients=(), came_for=RECIPIENTS, settled=RECIPIENTS), Delivered)


def test_a_single_recipient_is_named_in_the_trace() -> None:
    assert b"for <bob@example.org>" in letter(recipients=RECIPIENTS[:1]).content[0]
    assert b"for <" not in letter().content[0]


def test_when_every_recipient_is_settled_there_is_nothing_to_do() -> None:
    result = compose_with(settled=(*RECIPIENTS, "left@example.org"))
    assert isinstance(result, Delivered)


def test_line_ends_become_crlf() -> None:
    assert letter(b"A: b\n\none\rtwo\n.\n").content[1] == b"A: b\r\n\r\none\r\ntwo\r\n.\r\n"


EIGHT_BIT = "Content-Type: text/plain; charset=utf-8\r\n\r\nпривет\r\n".encode()


def test_eight_bits_pass_where_they_may() -> None:
    sent = letter(EIGHT_BIT)
    assert sent.eight_bit
    assert sent.content[1] == EIGHT_BIT


def test_eight_bits_are_encoded_where_they_may_not() -> None:
    sent = letter(EIGHT_BIT, SmtpFeatures())
    assert not sent.eight_bit
    content = b"".join(sent.content)
    assert content.isascii()
    assert sent.size_octets == len(content)
    assert email.message_from_bytes(content).get_payload(decode=True) == "привет\r\n".encode()


def test_seven_bits_are_not_touched_where_eight_may_not_pass() -> None:
    sent = letter(CONTENT, SmtpFeatures())
    assert not sent.eight_bit
    assert sent.content[1] == b"Subject: hello\r\n\r\nhello\r\n.\r\n"


def test_a_message_above_the_size_limit_is_never_sent() -> None:
    size = letter().size_octets
    assert letter(features=SmtpFeatures(size_limit=size)).size_octets == size
    result = compose_with(features=SmtpFeatures(size_limit=size - 1))
    assert isinstance(result, PermanentFailure)
    assert result.scope is Scope.MESSAGE
    assert result.reason == f"too large for the next hop: {size} octets, its SIZE limit is {size - 1}"


def test_an_international_recipient_needs_smtputf8() -> None:
    recipients = ("боб@example.org",)
    assert letter(recipients=recipients).smtputf8
    result = compose_with(recipients=recipients, features=SmtpFeatures(eight_bit_mime=True))
    assert isinstance(result, PermanentFailure)
    assert "SMTPUTF8" in result.reason


def test_a_strangers_international_address_makes_no_message_fail() -> None:
    assert letter(original="анна@example.org").envelope_sender == "анна@example.org"
    sent = letter(original="анна@example.org", features=SmtpFeatures(eight_bit_mime=True))
    assert (sent.envelope_sender, sent.smtputf8) == ("", False)
