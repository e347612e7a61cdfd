"""Which files the tables name, and whether somebody has written them anew.

A password, an authority or a client certificate may change while the configuration
says the same as before. What cannot be looked at counts as unchanged in that state:
whoever reads it says what is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel

from mailferry.config.files import NAMED_SECTIONS
from mailferry.config.models import Settings
from mailferry.config.secrets import Secret

Stamp = tuple[int, int, int] | None
"""When a file was written, its size and its number; None where it cannot be looked at."""

FileStamps = Mapping[str, tuple[Stamp, ...]]
"""By table, such as `maildrop.alice`, the stamps of the files that it names."""

_FILE_KEYS = frozenset({"tls_ca_file", "tls_certificate", "tls_key"})


def stamp(path: Path) -> Stamp:
    """Look at a file; follows links, since that is how whole folders of secrets are replaced."""
    try:
        status = os.stat(path)  # noqa: PTH116 - takes text as well
    except (OSError, ValueError):
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def file_stamps(settings: Settings) -> FileStamps:
    """Look at every file that a table in use names; blocks, as it asks the disk."""
    seen: dict[Path, Stamp] = {}

    def look(path: Path) -> Stamp:
        if path not in seen:
            seen[path] = stamp(path)
        return seen[path]

    stamps: dict[str, tuple[Stamp, ...]] = {}
    for section in NAMED_SECTIONS:
        for name, table in getattr(settings, section).items():
            files = tuple(map(look, _files(table))) if table.enabled else ()
            if files:
                stamps[f"{section}.{name}"] = files
    return stamps


def _files(table: BaseModel) -> Iterator[Path]:
    for key in type(table).model_fields:
        value = getattr(table, key)
        if isinstance(value, Secret):
            if value.file is not None:
                yield value.file
        elif key in _FILE_KEYS and value is not None:
            yield Path(value)
