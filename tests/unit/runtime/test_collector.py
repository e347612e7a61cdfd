"""What was made at the start is not looked at again, and what is garbage later is collected all the same."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from mailferry.runtime.collector import keep_what_lives, wait_for_start


class Ring:
    """Only the collector can tell that nobody holds it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_while_everything_is_made() -> None:
    wait_for_start()
    assert not gc.isenabled()


def test_what_lives_is_left_out_and_later_garbage_is_not() -> None:
    wait_for_start()
    dropped, kept = weakref.ref(Ring()), Ring()
    keep_what_lives()
    assert dropped() is None
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000
    assert not any(each is kept for each in gc.get_objects())
    later = weakref.ref(Ring())
    gc.collect()
    assert later() is None


def test_a_reload_lets_go_of_what_the_start_had_made() -> None:
    ring = Ring()
    keep_what_lives()
    seen = weakref.ref(ring)
    del ring
    gc.collect()
    assert seen() is not None
    keep_what_lives()
    assert seen() is None
