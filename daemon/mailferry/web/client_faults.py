"""Keeps what is only a client's bad request out of the log.

aiohttp reports each of those with a traceback: any local program could fill the log.
"""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

ClientFault = (HttpProcessingError, RequestPayloadError)
"""A request that is not HTTP, or whose body does not come as its header fields say."""


def library_logger(name: str) -> logging.Logger:
    """Return the logger for aiohttp's own words in the module `name`, less its clients' faults."""
    logger = logging.getLogger(f"{name}.aiohttp")
    logger.addFilter(_is_ours)  # adding it again changes nothing
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], ClientFault)
