"""`mailferry schema`: for editors that complete and check TOML."""

from __future__ import annotations

from mailferry.cli.screen import print_json


def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from mailferry.config import json_schema

    print_json(json_schema())
