"""Who may bring mail, and how often."""

from __future__ import annotations

import pytest

from mailferry.receiver.rates import MOST_CLIENTS, MessageRate, client_of, is_within


def test_a_minute_begins_with_the_first_message() -> None:
    now = [0.0]
    rate = MessageRate(2, lambda: now[0])
    assert [rate.allows("a") for _ in range(3)] == [True, True, False]
    assert rate.allows("b")
    now[0] = 59.9
    assert not rate.allows("a")
    now[0] = 60.0
    assert rate.allows("a")


def test_no_number_of_clients_takes_more_than_its_room() -> None:
    rate = MessageRate(1, lambda: 0.0)
    for number in range(MOST_CLIENTS + 10):
        rate.allows(str(number))
    assert len(rate._clients) == MOST_CLIENTS
    assert not rate.allows(str(MOST_CLIENTS)), "the newest are known"


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("nonsense", "nonsense"),
    ],
)
def test_what_counts_as_one_client(address: str, client: str) -> None:
    assert client_of(address) == client


@pytest.mark.parametrize(
    ("address", "networks", "within"),
    [
        ("192.0.2.7", (), True),
        ("", (), True),
        ("192.0.2.7", ("192.0.2.0/29",), True),
        ("192.0.2.8", ("192.0.2.0/29",), False),
        ("::ffff:192.0.2.7", ("192.0.2.7",), True),
        ("2001:db8::1", ("192.0.2.0/24", "2001:db8::/32"), True),
        ("nonsense", ("0.0.0.0/0",), False),
    ],
)
def test_networks(address: str, networks: tuple[str, ...], within: bool) -> None:
    assert is_within(address, networks) is within
