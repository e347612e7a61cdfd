"""Looking into the quarantine: what lies there, and what is wrong with it.

Other programs may work in the same Maildir: files of theirs are passed over, files
of ours may be moved to `cur`, get flags, or vanish. A reason that is missing or
damaged is told as such and never keeps the others from being seen.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mailferry.errors import QuarantineError
from mailferry.model import QuarantineEntry
from mailferry.quarantine import reasons
from mailferry.quarantine.files import told_in_words
from mailferry.quarantine.naming import entry_of_message_file, entry_of_reason_file, reason_file

_PIECE_OCTETS = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """What lies under one name.

    Attributes:
        entry: the reason; None when it is missing or cannot be read.
        problem: what is wrong with the entry, "" when it is whole.
        path: the message's file; None when somebody has taken it away.
        since: when it came here, as far as is known.
    """

    name: str
    entry: QuarantineEntry | None
    problem: str
    path: Path | None
    size_octets: int
    since: float


class QuarantineReader:
    """Answers questions about a quarantine; every method blocks and may raise `QuarantineError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reasons = path / "reasons"

    def count(self) -> int:
        """Return how many messages lie here."""
        with told_in_words(self.path):
            return len(self._message_paths())

    def all(self) -> list[StoredMessage]:
        """Return what lies under every name, a message or a reason alone included; the oldest first."""
        with told_in_words(self.path):
            paths = self._message_paths()
            stored = [self._stored(name, paths.get(name)) for name in self._names(paths)]
            return sorted(stored, key=lambda each: (each.since, each.name))

    def newest(self, skip: int, most: int) -> tuple[list[StoredMessage], int]:
        """Return some messages, the newest first, and how many lie here; however many those are, few are opened."""
        with told_in_words(self.path):
            paths = self._message_paths()
            written = sorted(((_written_at(path), name) for name, path in paths.items()), reverse=True)
            shown = (name for _, name in written[skip : skip + most])
            return [self._stored(name, paths[name]) for name in shown], len(paths)

    def names(self) -> set[str]:
        """Return the names of what `all` returns."""
        with told_in_words(self.path):
            return self._names(self._message_paths())

    def get(self, name: str) -> StoredMessage:
        """Return what lies under a whole name, as `names` has it."""
        with told_in_words(self.path):
            return self._stored(name, self.message_path(name))

    def foreign_files(self) -> int:
        """Return how many files in the Maildir are not ours; nobody touches them."""
        with told_in_words(self.path):
            files = [file for folder in ("new", "cur") for file in listing(self.path / folder)]
            return sum(entry_of_message_file(file) is None for file in files)

    @contextlib.contextmanager
    def opened(self, stored: StoredMessage) -> Iterator[Iterable[bytes]]:
        """Open a message for reading piece by piece (of 1 MiB)."""
        with told_in_words(self.path):
            file = self._open(stored)
        with file:
            yield _pieces(file)

    def _open(self, stored: StoredMessage) -> BinaryIO:
        path = stored.path
        if path is None or not path.exists():  # a mail reader may have renamed it since
            path = self.message_path(stored.name)
        if path is None:
            raise QuarantineError(f"{stored.name}: the message's file is not there any more")
        return path.open("rb")

    # -- for the writing side -----------------------------------------------------------

    def message_path(self, name: str) -> Path | None:
        """Return where a message's file is now."""
        for folder in ("new", "cur"):
            for file in listing(self.path / folder):
                if file.startswith(name) and entry_of_message_file(file) == name:
                    return self.path / folder / file
        return None

    def read_reason(self, name: str) -> tuple[QuarantineEntry | None, str]:
        """Return an entry's reason; or None, and in words why there is none."""
        path = self.reasons / reason_file(name)
        try:
            with path.open("rb") as file:
                octets = file.read(reasons.LIMIT_OCTETS + 1)
            if len(octets) > reasons.LIMIT_OCTETS:
                return None, f"{path}: larger than any reason that mailferry writes"
            entry = reasons.from_json(octets)
        except FileNotFoundError:
            return None, "its reason is missing: a crash, or somebody has taken it away"
        except (OSError, QuarantineError) as error:
            words = error.strerror if isinstance(error, OSError) else error
            return None, f"{path}: {words}"
        if entry.name != name:
            return None, f"{path}: belongs to another message, {entry.name!r:.40}"
        return entry, ""

    def _stored(self, name: str, path: Path | None) -> StoredMessage:
        entry, problem = self.read_reason(name)
        size, modified = entry.message.size_octets if entry is not None else 0, 0.0
        try:
            if path is not None:
                facts = path.stat()
                size, modified = facts.st_size, facts.st_mtime
        except FileNotFoundError:  # a mail reader renamed it just now
            path = self.message_path(name)
        if path is None:
            problem = "the message's file is gone: somebody has taken it away"
        since = entry.quarantined_at if entry is not None else modified
        return StoredMessage(name, entry, problem, path, size, since)

    def _names(self, paths: Iterable[str]) -> set[str]:
        named = {entry_of_reason_file(file) for file in listing(self.reasons)}
        return {*paths, *(name for name in named if name is not None)}

    def _message_paths(self) -> dict[str, Path]:
        paths: dict[str, Path] = {}
        for folder in ("new", "cur"):
            for file in listing(self.path / folder):
                name = entry_of_message_file(file)
                if name is not None:
                    paths[name] = self.path / folder / file
        return paths


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # a mail reader renamed it just now
        return 0.0


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while True:
        with told_in_words(Path(file.name)):
            piece = file.read(_PIECE_OCTETS)
        if not piece:
            return
        yield piece


def listing(folder: Path) -> list[str]:
    """Return the names in a folder; none when nothing was ever put there."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []
