"""Maildrops of the private Dovecot: made once, put back as they were before each run.

A maildrop is a Maildir of hard links to messages that lie in one place, with the
indexes that Dovecot has made for it already. So putting back thousands of messages
takes a moment, and no run pays for indexes that a long-lived maildrop would have.
"""

from __future__ import annotations

import os
import poplib
import shutil
import socket
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.mail import wire_octets
from benchmarks.site import PASSWORD, Site

_FIRST_ARRIVAL = 1_700_000_000
_WARM_SECONDS = 120.0
_NEW_USER_SECONDS = 5.0


def fill_maildir(maildir: Path, messages: Iterable[Path], *, first: int = 0, seen: bool = True) -> None:
    """Link messages into a Maildir, oldest first; `first` numbers continue an earlier filling.

    What no client has seen lies in `new`, as a delivery leaves it.
    """
    status = maildir.stat()
    part, flags = ("cur", ":2,S") if seen else ("new", "")
    for number, path in enumerate(messages, first):
        content = path.read_bytes()
        # Sizes in the name spare Dovecot a look into each file, as they do when it delivered them itself.
        sizes = f"S={len(content)},W={wire_octets(content)}"
        os.chown(path, status.st_uid, status.st_gid)
        os.link(path, maildir / part / f"{_FIRST_ARRIVAL + number}.M{number}P1.bench,{sizes}{flags}")


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


def uidls(port: int, user: str) -> list[str]:
    """Return the unique-ids of a maildrop, in the order of its messages."""
    client = poplib.POP3("127.0.0.1", port, _WARM_SECONDS)
    client.user(user)
    client.pass_(PASSWORD)
    lines = client.uidl()[1]
    client.quit()
    return [line.split()[1].decode("ascii") for line in lines]


def _visit(port: int, user: str) -> list[bytes]:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=_WARM_SECONDS) as link,
        link.makefile("rb") as replies,
    ):
        link.sendall(f"USER {user}\r\nPASS {PASSWORD}\r\nSTAT\r\nQUIT\r\n".encode("ascii"))
        return [replies.readline() for _ in range(5)]


class Maildrops:
    """The maildrops of one workload, PREFIX0 and on, each with its messages."""

    def __init__(self, site: Site, prefix: str, contents: Sequence[Sequence[Path]]) -> None:
        """Fill them and let Dovecot index them."""
        self.users = [f"{prefix}{number}" for number in range(len(contents))]
        self._site = site
        self._copies = site.folder / f"copies-{prefix}"
        for user, messages in zip(self.users, contents, strict=True):
            fill_maildir(site.maildir_of(user), messages)
        for user, messages in zip(self.users, contents, strict=True):
            seen = warm(site.near.pop3, user)
            if seen != len(messages):
                raise RuntimeError(f"maildrop {user}: {seen} messages are seen, {len(messages)} are there")

    def keep_copy(self) -> None:
        """Keep them as they are now."""
        self._copies.mkdir()
        for user in self.users:
            copy_maildir(self._site.maildir_of(user), self._copies / user)

    def restore(self) -> None:
        """Put all of them back as they were kept."""
        for user in self.users:
            maildir = self._site.maildir_of(user)
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
