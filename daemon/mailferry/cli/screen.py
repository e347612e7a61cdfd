"""What commands print with: consoles that take no orders from text, tables, JSON."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

PIPE_COLUMNS = 200
"""How wide tables may be where no terminal sets a limit (`COLUMNS` does, too)."""

_UNSAFE_IN_JSON = re.compile(
    "[\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)
"""json.dumps escapes the other control characters by itself."""


def screen(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is: no markup, no emoji codes, no highlighting."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else PIPE_COLUMNS
    return Console(file=stream, width=width, markup=False, emoji=False, highlight=False, legacy_windows=False)


def table(columns: Iterable[str], *, numbers: Sequence[str] = (), title: str | None = None) -> Table:
    """Return an empty table; the columns in `numbers` stand on the right and never wrap."""
    made = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        if column in numbers:
            made.add_column(column, justify="right", no_wrap=True)
        else:
            made.add_column(column, overflow="fold")
    return made


def print_json(document: object) -> None:
    """Print one JSON document; what could steer a terminal is written as an escape."""
    typer.echo(_safe_json(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)))


def as_json_line(document: object) -> str:
    """Return one JSON document in one line, as safe for a terminal."""
    return _safe_json(json.dumps(document, ensure_ascii=False, allow_nan=False))


def _safe_json(text: str) -> str:
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
