"""The Received field: right by RFC 5321 s.4.4, and closed to injection."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.utils import parsedate_to_datetime

import pytest

from mailferry.message.received import received_field


def _field(**changes: object) -> bytes:
    arguments: dict[str, object] = {
        "from_host": "pop.example.net",
        "with_protocol": "POP3S",
        "by_host": "mx.example.org",
        "message_id": 123456789012,
        "recipient": "alice@example.org",
        "at": 1_000_000_000.7,
    }
    return received_field(**(arguments | changes))  # type: ignore[arg-type]  # the keys are those above


def test_says_from_by_with_id_for_and_date() -> None:
    assert _field() == (
        b"Received: from pop.example.net by mx.example.org with POP3S id 1kpqzg2c\r\n"
        b"\tfor <alice@example.org>; Sun, 09 Sep 2001 01:46:40 +0000\r\n"
    )


def test_leaves_out_the_for_clause_without_a_recipient() -> None:
    assert _field(recipient=None).endswith(b"id 1kpqzg2c;\r\n\tSun, 09 Sep 2001 01:46:40 +0000\r\n")


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("192.0.2.7", b"from [192.0.2.7] by"),
        ("2001:db8::7", b"from [IPv6:2001:db8::7] by"),
        ("fe80::1%eth0\r\nX: y", b"from [IPv6:fe80::1] by"),
        ("почта.example", b"from xn--80a1acny.example by"),
        ("a..ж", b"from a.. by"),
        ("", b"from unknown by"),
        (" (;) ", b"from unknown by"),
        ("pop.example\r\nSubject: x", b"from pop.exampleSubject:x by"),
    ],
)
def test_writes_hosts_as_domains_or_literals(host: str, written: bytes) -> None:
    assert written in _field(from_host=host)


@pytest.mark.parametrize("name", ["from_host", "by_host", "with_protocol", "recipient"])
@pytest.mark.parametrize(
    "poison",
    [
        "x\r\nSubject: forged",
        "x\nSubject: forged",
        "x; (",
        "x\rbcc: y",
        "x\x00",
        "a@b\r\n\r\nbody",
        "x\u2028y",
        "é@b",
        "y" * 5000,
    ],
)
def test_no_argument_can_add_a_line_or_a_clause(name: str, poison: str) -> None:
    field = _field(**{name: poison})
    message = message_from_bytes(field + b"\r\n", policy=policy.default)
    assert message.keys() == ["Received"]
    assert field.isascii()
    assert field.count(b";") == 1
    assert b"\x00" not in field
    assert all(line.startswith(b"\t") for line in field.split(b"\r\n")[1:-1])
    assert max(map(len, field.split(b"\r\n"))) <= 998


def test_an_address_that_is_not_ascii_is_left_out() -> None:
    assert b"for <" not in _field(recipient="почта@example.org")


@pytest.mark.parametrize(
    ("number", "written"), [(0, b"id 0"), (35, b"id z"), (36, b"id 10"), (2**63 - 1, b"id 1y2p0ij32e8e7")]
)
def test_writes_the_number_in_base_36(number: int, written: bytes) -> None:
    assert written + b"\r\n" in _field(message_id=number).replace(b" for", b"\r\n")


def test_the_date_parses_as_utc() -> None:
    date = _field(at=0.0).decode().partition(";")[2]
    assert parsedate_to_datetime(date.strip()).timestamp() == 0


@pytest.mark.parametrize(
    ("from_host", "clause"),
    [
        ("mx.example.org ([192.0.2.1])", "from mx.example.org ([192.0.2.1])"),
        ("mx.example.org ([2001:db8::1])", "from mx.example.org ([IPv6:2001:db8::1])"),
        ("[192.0.2.1] ([192.0.2.1])", "from [192.0.2.1] ([192.0.2.1])"),
        ("x) by evil (y ([192.0.2.1])", "from xbyevily ([192.0.2.1])"),
        ("x ([192.0.2.9]) ([192.0.2.1])", "from x[192.0.2.9] ([192.0.2.1])"),
        ("x\r\nSubject: y ([192.0.2.1])", "from xSubject:y ([192.0.2.1])"),
        ("\ud800 ([])", "from []"),
    ],
)
def test_a_client_of_ours_is_told_by_name_and_address(from_host: str, clause: str) -> None:
    field = received_field(
        from_host=from_host, with_protocol="ESMTP", by_host="mx", message_id=1, recipient=None, at=0.0
    )
    assert b" ".join(field.split()).startswith(f"Received: {clause} by mx with ESMTP id".encode())
