"""AUTH as the scripted SMTP server answers it (RFC 4954): PLAIN, LOGIN, CRAM-MD5."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping

_CRAM_CHALLENGE = b"<4711.1@scripted.example.org>"


class ScriptedAuth:
    """The exchange of one session.

    Attributes:
        logged_in: whether some credentials were right.
    """

    def __init__(self, credentials: Mapping[str, str] | None) -> None:
        self.logged_in = False
        self._credentials = credentials or {}
        self._user = b""
        self._next: Callable[[bytes], bytes] | None = None

    @property
    def under_way(self) -> bool:
        """Whether the client's next line belongs to the exchange."""
        return self._next is not None

    def begin(self, mechanism: str, initial: bytes) -> bytes:
        """Take AUTH's arguments; return the reply."""
        begin = {"PLAIN": self._plain, "LOGIN": self._login, "CRAM-MD5": self._cram_md5}[mechanism]
        return begin(initial)

    def go_on(self, line: bytes) -> bytes:
        """Take the client's next line; return the reply."""
        assert self._next is not None
        step, self._next = self._next, None
        return step(line)

    def cancel(self) -> None:
        """Forget what was under way."""
        self._next = None

    def _plain(self, initial: bytes) -> bytes:
        if not initial:
            self._next = self._plain
            return b"334 \r\n"
        parts = base64.b64decode(initial).split(b"\0")
        return self._log_in(parts[1], lambda known: len(parts) == 3 and known == parts[2])

    def _login(self, initial: bytes) -> bytes:
        if initial:
            self._user = base64.b64decode(initial)
            self._next = self._login_password
            return b"334 " + base64.b64encode(b"Password:") + b"\r\n"
        self._next = self._login
        return b"334 " + base64.b64encode(b"Username:") + b"\r\n"

    def _login_password(self, line: bytes) -> bytes:
        return self._log_in(self._user, lambda known: known == base64.b64decode(line))

    def _cram_md5(self, _initial: bytes) -> bytes:
        self._next = self._cram_md5_response
        return b"334 " + base64.b64encode(_CRAM_CHALLENGE) + b"\r\n"

    def _cram_md5_response(self, line: bytes) -> bytes:
        user, _, digest = base64.b64decode(line).rpartition(b" ")

        def matches(known: bytes) -> bool:
            return hmac.new(known, _CRAM_CHALLENGE, "md5").hexdigest().encode("ascii") == digest

        return self._log_in(user, matches)

    def _log_in(self, user: bytes, matches: Callable[[bytes], bool]) -> bytes:
        known = self._credentials.get(user.decode("utf-8", "replace"))
        if known is None or not matches(known.encode()):
            return b"535 5.7.8 authentication credentials invalid\r\n"
        self.logged_in = True
        return b"235 2.7.0 authentication successful\r\n"
