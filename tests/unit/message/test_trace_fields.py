from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailferry.message.received import received_field
from mailferry.message.trace_fields import trace_facts
from mailferry.model import TraceFacts

US = "relay.example.org"


def ours(by_host: str = US, **changes: str) -> bytes:
    values = {"from_host": "pop.example.net", "with_protocol": "POP3S", "recipient": "alice@example.org"}
    values |= changes
    return received_field(by_host=by_host, message_id=3_735_928_559, at=1e9, **values)


THEIRS = b"Received: from a (b [192.0.2.1])\r\n\tby relay.example.org (Postfix) with ESMTPS id 4ABC\r\n"
FETCHMAIL = (
    b"Received: from pop.example.net by relay.example.org with POP3 (fetchmail-6.5.1)\r\n\tfor <x>; 1\r\n"
)


def facts(header: bytes, by_host: str = US) -> TraceFacts:
    return trace_facts(header, by_host)


def test_received_fields_are_counted_and_ours_among_them() -> None:
    header = ours() + THEIRS + FETCHMAIL + b"Subject: x\r\n" + ours(with_protocol="POP3")
    assert facts(header) == TraceFacts(received=4, received_by_us=2)


@pytest.mark.parametrize(
    "by_host",
    [
        US,
        "RELAY.Example.ORG",
        "192.0.2.7",
        "2001:db8::7",
        "fe80::1%eth0",
        "büro.example.org",
        "a b",
        "",
        f"{'long.' * 60}example.org",
    ],
)
def test_every_name_that_we_write_is_known_again(by_host: str) -> None:
    assert facts(ours(by_host), by_host).received_by_us == 1
    assert facts(ours(by_host), "other.example.org").received_by_us == (by_host == "other.example.org")


@pytest.mark.parametrize(
    "change",
    [
        lambda field: field.upper(),
        lambda field: field.lower(),
        lambda field: field.replace(b"\r\n\t", b" "),
        lambda field: field.replace(b" ", b"\r\n "),
        lambda field: field.replace(b"\r\n", b"\n"),
        lambda field: field.replace(b"\r\n", b"\r"),
        lambda field: field.replace(b"Received:", b"Received \t :"),
    ],
)
def test_a_field_of_ours_is_known_however_it_was_folded_or_spelt(change: object) -> None:
    assert callable(change)
    assert facts(change(ours()) + THEIRS) == TraceFacts(2, 1)


@pytest.mark.parametrize("with_protocol", ["SMTP", "ESMTP", "ESMTPS", "UTF8SMTP", "UTF8SMTPS"])
@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_what_came_by_smtp_was_here_as_well(with_protocol: str, address: str) -> None:
    field = ours(from_host=f"mx.example.net ([{address}])", with_protocol=with_protocol)
    assert facts(field).received_by_us == 1
    without_address = ours(from_host="mx.example.net", with_protocol=with_protocol)
    assert facts(without_address).received_by_us == 0, "others write that, too"


def test_a_field_in_another_field_s_fold_is_none() -> None:
    header = b"Subject: x\r\n Received: y\r\nX: Received: z\r\nX-Received: z\r\nReceived-SPF: pass\r\n"
    assert facts(header) == TraceFacts()


def test_another_host_s_field_is_not_ours() -> None:
    assert facts(ours("mail.example.org") + ours("x" + US) + ours(US + ".net")) == TraceFacts(3, 0)


# -- Delivered-To ------------------------------------------------------------------


def test_an_address_that_stands_once_is_no_repetition() -> None:
    header = b"Delivered-To: alice@example.org\r\nDelivered-To: bob@example.org\r\n"
    assert facts(header).repeated_delivered_to == ()


@pytest.mark.parametrize(
    "again", [b"alice@example.org", b"<alice@example.org>", b"ALICE@Example.org", b"\r\n\talice@example.org "]
)
def test_an_address_that_stands_twice_is_one_in_whatever_form(again: bytes) -> None:
    header = b"Delivered-To: alice@example.org\r\nSubject: x\r\ndelivered-to:" + again + b"\r\n"
    assert facts(header).repeated_delivered_to == ("alice@example.org",)


def test_empty_ones_are_passed_over_and_what_is_told_is_printable() -> None:
    header = b"Delivered-To:\r\nDelivered-To: <>\r\n" + b"Delivered-To: a\x1b[2J\xff@x\r\n" * 2
    assert facts(header).repeated_delivered_to == ("a[2j�@x",)


# -- hostile headers -----------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"Received:\r\n",
        b"RECEIVED:" + b" " * 500 + b"\r\n",
        b"Received" + b" " * 5000,
        b"Received: from " + b"x" * 5000 + b"\r\n",
        b"Received: from x by" + b"\r\n " * 3000 + b"\r\n",
        b"Received: from" + b" x by" * 1000 + b"\r\n",
        b"Delivered-To: a@x\r\n",
        b"Delivered-To:\n",
        b"\r",
        b"\nr",
        ours(),
    ],
)
def test_a_megabyte_of_anything_is_cheap(line: bytes) -> None:
    header = line * (1_048_576 // len(line))
    began = time.process_time()
    found = facts(header)
    assert time.process_time() - began < 1.0  # it takes hundredths; quadratic work would take minutes
    assert found.received <= 2000


@given(st.binary(max_size=300), st.text(max_size=30))
def test_no_octets_raise(header: bytes, by_host: str) -> None:
    facts(header, by_host)


PARTS = st.sampled_from(
    [b"Received:", b"delivered-to", b":", b"\r", b"\n", b" ", b"from a by ", b"with POP3 id 1;"]
)


@given(st.lists(PARTS, max_size=40).map(b"".join))
def test_no_field_is_counted_twice(header: bytes) -> None:
    found = facts(header)
    assert found.received_by_us <= found.received <= header.count(b"Received:")
