"""What Python's garbage collector need not look at.

What the start makes lives as long as the daemon: with ten thousand maildrops some million
objects. To look through them for garbage takes a third of the start, and later, each time,
a good part of a second in which nothing else goes on.
"""

from __future__ import annotations

import gc


def wait_for_start() -> None:
    """Collect nothing while everything is made."""
    gc.disable()


def keep_what_lives() -> None:
    """Collect what is garbage now, and leave the rest out of all later looks; again after each reload."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.enable()
