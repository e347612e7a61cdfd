"""Maildrops of the private Dovecot: made once, put back as they were before each run.

A maildrop is a Maildir of hard links to messages that lie in one place, with the
indexes that Dovecot has made for it already. So putting back thousands of messages
takes a moment, and no run pays for indexes that a long-lived maildrop would have.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.mail import wire_octets

_FIRST_ARRIVAL = 1_700_000_000
_WARM_SECONDS = 120.0
_NEW_USER_SECONDS = 5.0
PASSWORD = "correct horse"  # noqa: S105  invented


def fill_maildir(maildir: Path, messages: Iterable[Path], *, first: int = 0) -> None:
    """Link messages into a Maildir, oldest first; `first` numbers continue an earlier filling."""
    for number, path in enumerate(messages, first):
        content = path.read_bytes()
        # Sizes in the name spare Dovecot a look into each file, as they do when it delivered them itself.
        sizes = f"S={len(content)},W={wire_octets(content)}"
        os.link(path, maildir / "cur" / f"{_FIRST_ARRIVAL + number}.M{number}P1.bench,{sizes}:2,S")
    _give_away(maildir)


def warm(port: int, user: str) -> int:
    """Log in and out, so that Dovecot makes its indexes; return how many messages it sees.

    A user who was added a moment ago is not known yet: Dovecot looks at whole seconds.
    """
    deadline = time.monotonic() + _NEW_USER_SECONDS
    while (replies := _visit(port, user))[2].startswith(b"-ERR") and time.monotonic() < deadline:
        time.sleep(0.1)
    if not all(reply.startswith(b"+OK") for reply in replies):
        raise RuntimeError(f"maildrop {user}: {replies}")
    return int(replies[3].split()[1])


def _visit(port: int, user: str) -> list[bytes]:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=_WARM_SECONDS) as link,
        link.makefile("rb") as replies,
    ):
        link.sendall(f"USER {user}\r\nPASS {PASSWORD}\r\nSTAT\r\nQUIT\r\n".encode("ascii"))
        return [replies.readline() for _ in range(5)]


class Maildrops:
    """The maildrops of one workload, PREFIX0 and on.

    `maildir_of` tells where a user's Maildir lies, `owner` whose it is.
    """

    def __init__(self, prefix: str, contents: Sequence[Sequence[Path]], copies: Path) -> None:
        self.prefix = prefix
        self._contents = contents
        self._copies = copies

    @property
    def users(self) -> list[str]:
        """Their names."""
        return [f"{self.prefix}{number}" for number in range(len(self._contents))]

    def make(self, maildir_of: Callable[[str], Path], port: int) -> None:
        """Fill the empty Maildirs of the users, let Dovecot index them, and keep a copy."""
        for user, messages in zip(self.users, self._contents, strict=True):
            fill_maildir(maildir_of(user), messages)
        for user, messages in zip(self.users, self._contents, strict=True):
            maildir = maildir_of(user)
            seen = warm(port, user)
            if seen != len(messages):
                raise RuntimeError(f"maildrop {user}: {seen} messages are seen, {len(messages)} are there")
            copy_maildir(maildir, self._copies / user)

    def restore(self, maildir_of: Callable[[str], Path]) -> None:
        """Put all of them back as they were made."""
        for user in self.users:
            maildir = maildir_of(user)
            shutil.rmtree(maildir)
            copy_maildir(self._copies / user, maildir)


def copy_maildir(source: Path, target: Path) -> None:
    """Copy a Maildir: messages as links, indexes as files, with owners and times."""
    shutil.copytree(source, target, copy_function=_link_or_copy)
    for folder in (source, *(path for path in source.iterdir() if path.is_dir())):
        _keep_owner_and_time(folder, target / folder.relative_to(source))


def _link_or_copy(source: str, target: str) -> str:
    if os.path.basename(source).startswith("dovecot"):  # noqa: PTH119  copytree hands texts
        shutil.copy2(source, target)
        _keep_owner_and_time(Path(source), Path(target))
    else:
        os.link(source, target)
    return target


def _keep_owner_and_time(source: Path, target: Path) -> None:
    # Dovecot compares the times of the folders with those in its index before it believes that.
    status = source.stat()
    os.chown(target, status.st_uid, status.st_gid)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _give_away(maildir: Path) -> None:
    """Give a Maildir's files to the owner of the Maildir."""
    status = maildir.stat()
    for path in (maildir / "cur").iterdir():
        os.chown(path, status.st_uid, status.st_gid)
