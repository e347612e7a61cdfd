"""Whether a server keeps mail as long as the configuration wants it kept (EXPIRE, RFC 2449 s.6.7)."""

from __future__ import annotations

from mailferry.policy.plan import Retention

_DAY_SECONDS = 86_400.0


def expires_too_early(retention: Retention, expire_days: int | None) -> bool:
    """Return whether the server deletes messages before we would.

    Args:
        retention: what is configured.
        expire_days: what the server said; None for never, or nothing.
    """
    if expire_days is None:
        return False
    keep_seconds = retention.keep_seconds
    return keep_seconds is None or keep_seconds > expire_days * _DAY_SECONDS
