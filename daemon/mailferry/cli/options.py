"""Options that several commands share, and how they get their settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mailferry.cli.faults import DEBUG_VARIABLE

if TYPE_CHECKING:
    from mailferry.config import Settings
    from mailferry.config.places import Places
    from mailferry.config.source import ConfigSource

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="MAILFERRY_CONFIG",
        metavar="FILE",
        readable=False,  # that it cannot be read is told as a problem of the configuration
        help="The configuration; /etc/mailferry/mailferry.toml by default.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, for scripts.")]


def settings_from(path: Path | None, *, check_secrets: bool = True) -> Settings:
    """Load the configuration; a command that logs in nowhere need not check the secrets.

    Raises:
        ConfigError: with all problems.
    """
    from mailferry.config import load_settings

    return load_settings(path, environ=_environ(), check_secrets=check_secrets)


def source_of(path: Path | None) -> ConfigSource:
    """Return what reads the configuration, as often as it is needed."""
    from mailferry.config.source import ConfigSource

    return ConfigSource(path, _environ())


def places_of(path: Path | None) -> Places:
    """Return where the running daemon can be reached; a configuration that is wrong by now is no obstacle."""
    from mailferry.config.places import load_places

    return load_places(path, _environ())


def _environ() -> dict[str, str]:
    # Every other MAILFERRY_ variable sets a key, and would be refused if it did not.
    return {name: value for name, value in os.environ.items() if name != DEBUG_VARIABLE}
