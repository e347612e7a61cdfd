from __future__ import annotations

import pytest

from mailferry.policy.expiry import expires_too_early
from mailferry.policy.plan import Retention

DAY = 86_400.0


@pytest.mark.parametrize(
    ("keep_seconds", "expire_days", "too_early"),
    [
        (0.0, None, False),
        (None, None, False),
        (0.0, 0, False),
        (None, 0, True),
        (60.0, 0, True),
        (14 * DAY, 13, True),
        (14 * DAY, 14, False),
        (None, 10_000, True),
        (0.0, 30, False),
    ],
)
def test_a_server_that_deletes_sooner_than_we_would(
    keep_seconds: float | None, expire_days: int | None, too_early: bool
) -> None:
    assert expires_too_early(Retention(keep_seconds), expire_days) is too_early
