"""All harnesses, by name; each is imported only when it is asked for.

A target imports what it fuzzes under instrumentation, so nothing else may have
imported it before.
"""

from __future__ import annotations

from importlib import import_module

from fuzz.harness import Harness

_MODULES = {
    "pop3": "pop3",
    "smtp": "smtp",
    "header": "message",
    "config": "config",
    "words": "message",
    "wire": "message",
    "downgrade": "message",
    "growth": "message",
    "spooled": "spooled",
    "replies": "replies",
    "scram": "scram",
    "frames": "frames",
}
NAMES = tuple(_MODULES)
"""The four that matter most come first."""


def load(name: str) -> Harness:
    """Return a harness.

    Raises:
        KeyError: there is none of that name.
    """
    module = import_module(f"fuzz.{_MODULES[name]}")
    found: Harness = next(harness for harness in module.HARNESSES if harness.name == name)
    return found
