"""`mailferry version`."""

from __future__ import annotations

import typer

from mailferry import __version__


def version() -> None:
    """Print the version."""
    typer.echo(f"mailferry {__version__}")
