"""When certificates and tokens end, as far as sessions have shown."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge

from mailferry.telemetry.daemon_series import guarded


class Expiries:
    """One family of times of expiry, with the labels `peer` and `name`.

    Args:
        merged: peers that are not told apart by name: their one series is the earliest.
    """

    def __init__(
        self, name: str, text: str, registry: CollectorRegistry, *, merged: Iterable[str] = ()
    ) -> None:
        self._family = Gauge(f"mailferry_{name}", text, ["peer", "name"], registry=registry)
        self._merged = frozenset(merged)
        self._known: dict[tuple[str, str], float] = {}

    def expect(self, peer: str, name: str) -> None:
        """Make the series, with 0 until something is seen; nothing happens when it is there."""
        key = peer, name
        if key in self._known:
            return
        self._known[key] = 0.0
        if peer in self._merged:
            earliest = guarded("an expiry", lambda: self._earliest(peer))
            self._family.labels(peer, "").set_function(earliest)
        else:
            self._family.labels(peer, name)

    def seen(self, peer: str, name: str, expires_at: float) -> None:
        """Note when something ends; it may be over already."""
        self.expect(peer, name)
        self._known[peer, name] = expires_at
        if peer not in self._merged:
            self._family.labels(peer, name).set(expires_at)

    def forget(self, peer: str, name: str) -> None:
        """Drop the series."""
        if self._known.pop((peer, name), None) is not None and peer not in self._merged:
            self._family.remove(peer, name)

    def _earliest(self, peer: str) -> float:
        # A copy: a scrape's thread reads while the loop adds and removes.
        return min((at for (of, _), at in list(self._known.items()) if of == peer and at), default=0.0)
