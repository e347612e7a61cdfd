"""An archive in Maildir form: written, synced, renamed, the folder synced.

A message's file name follows from its octets, so that a repeat after a crash is
the same file and an archive never doubles. The octets are stored as they were
fetched. One thread writes; what waits while it does shares the next folder sync.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mailferry.message.content import pieces_of
from mailferry.model import (
    Content,
    Deferred,
    Delivered,
    Delivery,
    DeliveryReport,
    DestinationName,
    FetchedMessage,
    Outcome,
    Scope,
)

_bugs = logging.getLogger("mailferry.bugs")

_BATCH = 64
"""Files that share one sync of the folder."""


class MaildirDestination:
    """Implements `ports.Destination`."""

    available = True  # its `Route` knows better
    half_open = False

    def __init__(self, name: DestinationName, path: Path) -> None:
        self.name = name
        self._writer = MaildirWriter(path)
        self._waiting: deque[Delivery] = deque()
        self._task: asyncio.Task[None] | None = None
        self._draining = False

    def submit(self, delivery: Delivery) -> None:
        """Take an order."""
        if self._draining:
            report = DeliveryReport(Deferred(Scope.NEXT_HOP, "the daemon is stopping", attempted=False))
            delivery.done(report)
            return
        self._waiting.append(delivery)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def drain(self) -> None:
        """Finish what was taken: it is quick, and here."""
        self._draining = True
        if self._task is not None:
            await self._task

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                messages = [delivery.message for delivery in batch]
                try:
                    outcomes = await asyncio.to_thread(self._writer.write, messages)
                except Exception as error:  # noqa: BLE001  every order gets its answer, whatever happens
                    _bugs.exception("archive %s", self.name)
                    outcomes = [Deferred(Scope.MESSAGE, f"internal error: {error!r}")] * len(batch)
                for delivery, outcome in zip(batch, outcomes, strict=True):
                    delivery.done(DeliveryReport(outcome))
        finally:
            self._task = None


class MaildirWriter:
    """Writes messages into one Maildir; blocking, for one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: set[str] | None = None

    def write(self, messages: Sequence[FetchedMessage]) -> list[Outcome]:
        """Store messages; each outcome is final: `Delivered` means synced."""
        try:
            names = self._existing_names()
        except OSError as error:
            return [_deferred(self._path, error)] * len(messages)
        outcomes: list[Outcome] = []
        for message in messages:
            try:
                outcomes.append(Delivered(self._store(message, names)))
            except OSError as error:
                self._names = None  # somebody may have moved the folders away: look again
                outcomes.append(
                    replace(_deferred(self._path, error), in_transaction=True)
                )  # a smaller one may fit
        try:
            _sync_folder(self._path / "new")
        except OSError as error:
            self._names = None
            return [_deferred(self._path, error)] * len(messages)
        return outcomes

    def _store(self, message: FetchedMessage, names: set[str]) -> str:
        name = file_name(message)
        if name in names and self._is_there(name):
            return f"{name} (was there)"
        temporary = self._path / "tmp" / f"{name}.{os.getpid()}"
        try:
            _write_synced(temporary, message.content)
            temporary.rename(self._path / "new" / name)
        except OSError:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                temporary.unlink(missing_ok=True)
            raise
        names.add(name)
        return name

    def _is_there(self, name: str) -> bool:
        """Look for a file that may have been moved to cur or deleted since."""
        if (self._path / "new" / name).exists():
            return True
        return name in _names_in(self._path / "cur")

    def _existing_names(self) -> set[str]:
        """Read the folder once: later repeats can only be of files that we wrote."""
        if self._names is None:
            self._make_folders()
            self._names = _names_in(self._path / "new") | _names_in(self._path / "cur")
        return self._names

    def _make_folders(self) -> None:
        """Make what is missing, and let the parents remember it: a file is as safe as its folder."""
        for name in ("tmp", "new", "cur"):
            folder = self._path / name
            missing = [each for each in (folder, *folder.parents) if not each.exists()]
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for made in missing:
                _sync_folder(made.parent)


def file_name(message: FetchedMessage) -> str:
    """Return the name that these octets always get; `S=` is Dovecot's size hint."""
    return f"{message.content_digest.hex()}.mailferry,S={len(message.content)}"


def _names_in(folder: Path) -> set[str]:
    """Return the names of a folder's files, without the flags that a reader added."""
    with os.scandir(folder) as entries:
        return {entry.name.split(":")[0] for entry in entries}


def _write_synced(path: Path, content: Content) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        for piece in pieces_of(content):
            view = memoryview(piece)
            while view:
                view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _deferred(path: Path, error: OSError) -> Deferred:
    where = error.filename or path
    return Deferred(Scope.NEXT_HOP, f"{where}: {error.strerror or error}")
