"""Who may bring mail, and how many messages per minute.

Counted by address; for IPv6 by /64, since one machine has all of it. What is kept is
bounded: when too many addresses come within a minute, those seen longest ago are
forgotten first.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Sequence

MOST_CLIENTS = 10_000
WINDOW_SECONDS = 60.0


class MessageRate:
    """Allows so many messages within a minute that begins with the first one.

    Args:
        per_minute: for each client.
        steady: seconds by a clock that nobody can set.
    """

    def __init__(self, per_minute: int, steady: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._steady = steady
        self._clients: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def allows(self, client: str) -> bool:
        """Count one more message of a client, and tell whether it may bring it."""
        now = self._steady()
        since, count = self._clients.get(client, (now, 0))
        if now - since >= WINDOW_SECONDS:
            since, count = now, 0
        self._clients[client] = (since, count + 1)
        self._clients.move_to_end(client)
        if len(self._clients) > MOST_CLIENTS:
            self._clients.popitem(last=False)
        return count < self._per_minute


def client_of(address: str) -> str:
    """Return what an address counts as: itself, or its /64."""
    parsed = _parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(parsed or address)


def is_within(address: str, networks: Sequence[str]) -> bool:
    """Tell whether an address belongs to one of some networks; without any it does."""
    if not networks:
        return True
    parsed = _parse(address)
    return parsed is not None and any(parsed in ipaddress.ip_network(each) for each in networks)


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address; one of IPv4 that a socket of IPv6 tells counts as what it is."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed
