"""The place of the control socket in the file system: made private, never taken from a daemon that lives.

Who may connect is decided by the file's permissions alone, so they must be right from the
first moment: the mode is set before the name exists.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from mailferry.errors import ControlSocketError

MODE = 0o600
"""The daemon's own user, and root."""
KEY = "[daemon] control_socket"
"""What to change when it cannot be had."""
LONGEST_PATH_OCTETS = 107
"""sun_path of unix(7) has 108, and a zero at the end."""
_KNOCK_SECONDS = 2.0


class UnixSocket:
    """A listening socket with a name, and maybe a link that leads to it."""

    def __init__(self, path: Path, pointer: Path | None = None, *, mode: int = MODE, key: str = KEY) -> None:
        """Take where it is to be; `pointer` is a symbolic link to it, where commands look."""
        self.path = path
        self._pointer = pointer
        self._mode = mode
        self._key = key
        self._identity: tuple[int, int] | None = None

    def open(self) -> socket.socket:
        """Return the socket, bound.

        Raises:
            ControlSocketError: it cannot be had; the text says where and why.
        """
        if is_too_long(self.path):
            raise ControlSocketError(
                f"{self.path}: too long for a Unix socket, {LONGEST_PATH_OCTETS} octets are the most: "
                f"set a shorter {self._key}"
            )
        try:
            made = self._bind()
            try:
                self._point()
            except BaseException:
                made.close()
                self.remove()
                raise
        except OSError as error:
            where = error.filename or self.path
            raise ControlSocketError(
                f"{where}: the socket cannot be had: {error.strerror or error}"
            ) from error
        return made

    def remove(self) -> None:
        """Take the names away, unless they are another daemon's by now."""
        with contextlib.suppress(OSError):
            if _identity(self.path) == self._identity:
                self.path.unlink()
        with contextlib.suppress(OSError):
            if self._pointer is not None and self._pointer.readlink() == self.path:
                self._pointer.unlink()

    def _bind(self) -> socket.socket:
        _make_room(self.path, self._key)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(made.fileno(), self._mode)  # Linux makes the name with it, less the umask
            made.bind(os.fspath(self.path))
            self.path.chmod(self._mode)
            self._identity = _identity(self.path)
            made.setblocking(False)
        except BaseException:
            made.close()
            raise
        return made

    def _point(self) -> None:
        if self._pointer is None or self._pointer == self.path:
            return
        _make_room(self._pointer, self._key)
        self._pointer.symlink_to(self.path)


def is_too_long(path: Path) -> bool:
    """Tell whether no Unix socket can have this name."""
    return len(os.fsencode(path)) > LONGEST_PATH_OCTETS


def _make_room(path: Path, key: str) -> None:
    """Remove what a daemon that died has left.

    Raises:
        ControlSocketError: somebody listens there, or it is no socket.
        OSError: it cannot be told, or not be removed.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISSOCK(mode) or stat.S_ISLNK(mode)):
        raise ControlSocketError(f"{path}: is there, and is no socket: remove it, or set another {key}")
    if _answers(path):
        raise ControlSocketError(f"{path}: another mailferry answers there: stop it, or set another {key}")
    path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.settimeout(_KNOCK_SECONDS)
        try:
            knock.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError as error:
            if error.errno in {errno.EAGAIN, errno.ETIMEDOUT} or isinstance(error, TimeoutError):
                return True  # it lives, and is busy
            raise
        return True


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino
