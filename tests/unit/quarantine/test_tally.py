from __future__ import annotations

from mailferry.quarantine.tally import RECOUNT_SECONDS, QuarantineTally


def test_it_is_counted_seldom_and_kept_by_what_is_added() -> None:
    counts = iter([5, 2])
    now = 1000.0
    tally = QuarantineTally(lambda: next(counts), lambda: now)
    tally.add_one()  # before anybody asked: it will be counted
    assert tally() == 5
    tally.add_one()
    now += RECOUNT_SECONDS - 1
    assert tally() == 6
    now += 1
    assert tally() == 2
    assert tally() == 2
