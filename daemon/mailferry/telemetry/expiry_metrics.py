"""When certificates and tokens end, as far as sessions have shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Gauge

from mailferry.telemetry.daemon_series import guarded

Key = tuple[str, str]
"""What a peer is, and its name."""


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
        self._known: dict[Key, float] = {}
        self._shown: set[Key] = set()

    def expect(self, keys: Iterable[Key]) -> None:
        """Have series for these and no others; new ones begin with 0."""
        wanted = set(keys)
        self._known = {key: self._known.get(key, 0.0) for key in wanted}
        shown = {(peer, "" if peer in self._merged else name) for peer, name in wanted}
        for key in self._shown - shown:
            self._family.remove(*key)
        for peer, name in shown - self._shown:
            child = self._family.labels(peer, name)
            if peer in self._merged:
                child.set_function(guarded("an expiry", self._earliest_of(peer)))
        self._shown = shown

    def seen(self, peer: str, name: str, expires_at: float) -> None:
        """Note when something ends; it may be over already. What is not expected (any more) passes."""
        if (peer, name) not in self._known:
            return
        self._known[peer, name] = expires_at
        if peer not in self._merged:
            self._family.labels(peer, name).set(expires_at)

    def read(self, peer: str, name: str, reading: Callable[[], float]) -> None:
        """Read an expected one whenever somebody looks."""
        if (peer, name) in self._shown:
            self._family.labels(peer, name).set_function(guarded("an expiry", reading))

    def _earliest_of(self, peer: str) -> Callable[[], float]:
        # A copy: a scrape's thread reads while the loop changes it.
        return lambda: min(
            (at for (of, _), at in list(self._known.items()) if of == peer and at), default=0.0
        )
