"""Which ledger a URL names."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from mailferry.errors import StoreError

_ALLOWED = "allowed is sqlite:///relative/path or sqlite:////absolute/path"


def database_path(url: str) -> Path:
    """Return the file that a ledger URL names.

    Raises:
        StoreError: it is not the URL of a ledger that can be kept.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StoreError(f"[ledger] url: cannot be read as a URL: {_ALLOWED}") from error
    if parsed.get_backend_name() != "sqlite":
        raise StoreError(f"[ledger] url: {parsed.get_backend_name()} is not supported: {_ALLOWED}")
    if not parsed.database or parsed.database == ":memory:" or parsed.query:
        raise StoreError(f"[ledger] url: must name a file, without options: {_ALLOWED}")
    return Path(parsed.database)
