"""The quarantine on disk: a Maildir that any mail reader can open, and `reasons` beside it.

    new/ cur/ tmp/       the messages, octet for octet as they were fetched
    reasons/NAME.json    why each is here, from whom to whom, and what each destination said
    lock                 held by a command that delivers or deletes

Order. A message and its reason are both written and synced under temporary
names first; then the message gets its name, its folder is synced, then the
reason does. So a reason never stands without its message, and a message that a
crash left without one is listed as such until the next `put` completes it. An
entry is removed in the same order: the message first, or a crash would leave it to
be delivered again by who no longer knows that it was.

Everything here blocks; only `put` is awaitable and does its work in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mailferry.errors import QuarantineError
from mailferry.message.content import pieces_of
from mailferry.model import (
    DeliveryRecord,
    DeliveryState,
    FetchedMessage,
    MessageRecord,
    QuarantineEntry,
)
from mailferry.quarantine import reasons
from mailferry.quarantine.files import (
    give_to_owner_of,
    make_folder,
    sweep,
    sync_folder,
    told_in_words,
    write_synced,
)
from mailferry.quarantine.naming import message_file, names_for, reason_file
from mailferry.quarantine.reader import QuarantineReader, StoredMessage

_RENAMES = 5
"""How often a mail reader may rename a file while we look for it."""


class QuarantineStore(QuarantineReader):
    """Implements `ports.Quarantine`; the other methods are for commands."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        super().__init__(path)
        self.on_new: Callable[[], None] = lambda: None
        """Called in the writing thread for each new entry."""
        self._clock = clock
        self._preparing = threading.Lock()
        self._swept = False

    # -- storing ----------------------------------------------------------------

    async def put(
        self, message: FetchedMessage, record: MessageRecord, deliveries: Sequence[DeliveryRecord]
    ) -> str:
        """Keep a message and the reasons beside it, synced to disk; return its name.

        The same message put twice is the same entry, and what `retry` has brought
        to its destinations meanwhile stays noted.

        Raises:
            QuarantineError: it could not be written; nothing of it is left here.
        """
        return await asyncio.to_thread(self._put, message, record, tuple(deliveries))

    def _put(
        self, message: FetchedMessage, record: MessageRecord, deliveries: tuple[DeliveryRecord, ...]
    ) -> str:
        with told_in_words(self.path):
            self._prepare()
            name, path = self._place_for(message)
            entry = self._entry(name, message, record, deliveries)
            if path is None:
                self._store(entry, message)
                self.on_new()
            else:
                sync_folder(path.parent)  # the rename may have been the last that a machine did
                self._save_reason(entry)
        return name

    def _prepare(self) -> None:
        with self._preparing:
            for folder in (self.path, *(self.path / name for name in ("tmp", "new", "cur")), self.reasons):
                make_folder(folder)
            if not self._swept:
                sweep(self.path / "tmp")
            self._swept = True

    def _place_for(self, message: FetchedMessage) -> tuple[str, Path | None]:
        """Return the entry's name, and its file if it is there already."""
        for name in names_for(message):
            path = self.message_path(name)
            if path is None or _holds(path, message):
                return name, path
        raise QuarantineError(f"{self.path}: too many messages share one name")

    def _entry(
        self,
        name: str,
        message: FetchedMessage,
        record: MessageRecord,
        deliveries: tuple[DeliveryRecord, ...],
    ) -> QuarantineEntry:
        earlier = self.read_reason(name)[0]
        if earlier is not None:
            deliveries = _with_acceptances(deliveries, earlier.deliveries)
        return QuarantineEntry(
            name=name,
            message=replace(
                record, header_digest=message.header_digest, content_digest=message.content_digest
            ),
            deliveries=deliveries,
            envelope_sender=message.envelope_sender,
            envelope_recipients=message.envelope_recipients,
            fetched_at=message.fetched_at,
            fetched_from=message.fetched_from,
            fetched_with=message.fetched_with,
            quarantined_at=earlier.quarantined_at if earlier is not None else self._clock(),
        )

    def _store(self, entry: QuarantineEntry, message: FetchedMessage) -> None:
        stored = self.path / "new" / message_file(entry.name, len(message.content))
        temporary = self._temporary(stored.name)
        try:
            write_synced(temporary, pieces_of(message.content))
            with self._reason_written(entry) as publish_reason:
                temporary.rename(stored)
                sync_folder(stored.parent)
                publish_reason()
        except BaseException:
            for path in (temporary, stored, self.reasons / reason_file(entry.name)):
                with contextlib.suppress(OSError):  # the first error is the one to tell
                    path.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _reason_written(self, entry: QuarantineEntry) -> Iterator[Callable[[], None]]:
        """Write a reason under a temporary name; the caller says when it gets its own."""
        path = self.reasons / reason_file(entry.name)
        temporary = self._temporary(path.name)

        def publish() -> None:
            temporary.rename(path)
            sync_folder(self.reasons)

        write_synced(temporary, [reasons.to_json(entry)])
        try:
            yield publish
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)  # gone already when all went well

    def _temporary(self, name: str) -> Path:
        return self.path / "tmp" / f"{name}.{os.getpid()}"

    # -- what commands do ---------------------------------------------------------

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Let no other command deliver or delete meanwhile; the lock dies with the process.

        The daemon may put messages here all the same.

        Raises:
            QuarantineError: another command is at it.
        """
        with told_in_words(self.path):
            self._prepare()
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with told_in_words(self.path):
                give_to_owner_of(self.path, descriptor)
                self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise QuarantineError(
                f"{self.path}: another command delivers or deletes messages there: wait until it has ended"
            ) from error

    def save_reason(self, entry: QuarantineEntry) -> None:
        """Write an entry's reason anew, synced.

        Raises:
            QuarantineError: it could not be written; the old one stands.
        """
        with told_in_words(self.reasons):
            self._save_reason(entry)

    def _save_reason(self, entry: QuarantineEntry) -> None:
        with self._reason_written(entry) as publish:
            publish()

    def remove(self, stored: StoredMessage) -> None:
        """Delete a message and its reason for good, or what there is of them.

        Raises:
            QuarantineError: one of them could not be deleted.
        """
        with told_in_words(self.path):
            path = stored.path
            for _ in range(_RENAMES):
                if path is None:
                    break
                try:
                    path.unlink()
                    sync_folder(path.parent)
                    break
                except FileNotFoundError:  # a mail reader renamed it: look again
                    path = self.message_path(stored.name)
            else:
                raise QuarantineError(f"{path}: another program renames it again and again")
            (self.reasons / reason_file(stored.name)).unlink(missing_ok=True)
            sync_folder(self.reasons)


def quarantine_in(state_dir: Path) -> QuarantineStore:
    """Return the quarantine of the daemon with this state directory."""
    return QuarantineStore(state_dir / "quarantine")


def _holds(path: Path, message: FetchedMessage) -> bool:
    """Whether a file has exactly these octets."""
    if path.stat().st_size != len(message.content):
        return False
    with path.open("rb") as file:
        return all(file.read(len(piece)) == piece for piece in pieces_of(message.content))


def _with_acceptances(
    deliveries: Iterable[DeliveryRecord], earlier: Iterable[DeliveryRecord]
) -> tuple[DeliveryRecord, ...]:
    """Return the deliveries, but those that `retry` has brought to their goal as it left them."""
    accepted = {each.destination: each for each in earlier if each.state is DeliveryState.ACCEPTED}
    return tuple(accepted.get(each.destination, each) for each in deliveries)
