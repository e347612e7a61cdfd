"""A connection whose opening stands in the trace: what never gets as far as a greeting would be silent there."""

from __future__ import annotations

from mailferry.errors import MailferryError
from mailferry.net.endpoint import Endpoint
from mailferry.net.link import Link, connect
from mailferry.net.trace import Trace, switch_of


async def connect_traced(endpoint: Endpoint, trace: Trace) -> Link:
    """Connect as `link.connect` does, and raise as it does."""
    switch = switch_of(trace)
    if switch.on:
        trace("note", f"connecting to {endpoint}")
    try:
        return await connect(endpoint)
    except MailferryError as error:
        if switch.on:
            trace("note", f"no connection: {error}")
        raise
