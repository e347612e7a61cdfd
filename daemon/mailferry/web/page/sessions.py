"""Who has logged in: sessions in memory, attempts that are counted, a token that is compared and not kept.

The cookie holds a number that means nothing outside of this process. The token itself is read
from its place at each attempt and forgotten; of it only a digest stays, so that a new token
ends the sessions that the old one began.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from mailferry.errors import MailferryError

LEAST_CHARACTERS = 16
"""Of a token. It is the only thing that is asked for, so it must not be guessed."""
MAX_SESSIONS = 64
IDLE_SECONDS = 3600.0
LONGEST_SECONDS = 12 * 3600.0
ATTEMPTS_PER_MINUTE = 5
"""From one address; all addresses together have `ALL_ATTEMPTS_PER_MINUTE`."""
ALL_ATTEMPTS_PER_MINUTE = 30
_MINUTE = 60.0

Now = Callable[[], float]
"""Seconds of a clock that is never set."""


@dataclass(slots=True)
class Session:
    """Somebody who has logged in.

    Attributes:
        csrf: what every form of this session must hold.
        notice: what came of the last thing that was done, to be shown once; `went_wrong` is about it.
    """

    csrf: str
    began_at: float
    used_at: float
    token_digest: bytes = field(repr=False)
    notice: str = ""
    went_wrong: bool = False

    def take_notice(self) -> tuple[str, bool]:
        """Return the notice, and whether it is about a failure; it is shown once."""
        notice, self.notice = self.notice, ""
        return notice, self.went_wrong

    def owns(self, csrf: str) -> bool:
        """Tell whether a form comes from a page of this session."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode("utf-8", "replace"))


class Sessions:
    """The sessions, by what their cookies hold."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def begin(self, token_digest: bytes) -> str:
        """Begin a session and return what its cookie is to hold; too many, and the oldest ends.

        Sessions that began with another token end.
        """
        now = self._now()
        for number in [n for n, each in self._sessions.items() if each.token_digest != token_digest]:
            del self._sessions[number]
        while len(self._sessions) >= MAX_SESSIONS:
            self._sessions.popitem(last=False)
        number = secrets.token_urlsafe(32)
        self._sessions[number] = Session(secrets.token_urlsafe(32), now, now, token_digest)
        return number

    def find(self, number: str | None, *, by_person: bool = True) -> Session | None:
        """Return a session that is still good; a page that only renews itself does not keep it so."""
        session = self._sessions.get(number) if number else None
        if number is None or session is None:
            return None
        now = self._now()
        if now - session.used_at > IDLE_SECONDS or now - session.began_at > LONGEST_SECONDS:
            del self._sessions[number]
            return None
        if by_person:
            session.used_at = now
        return session

    def end(self, number: str | None) -> None:
        """End a session."""
        if number is not None:
            self._sessions.pop(number, None)


class Attempts:
    """Counts attempts to log in, by address and all together."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._made: deque[tuple[float, str]] = deque()

    def wait_seconds(self, client: str) -> float:
        """Count an attempt and return 0; or return how long to wait before the next one, and count nothing."""
        now = self._now()
        while self._made and now - self._made[0][0] >= _MINUTE:
            self._made.popleft()
        own = [at for at, who in self._made if who == client]
        if len(own) >= ATTEMPTS_PER_MINUTE:
            return own[0] + _MINUTE - now
        if len(self._made) >= ALL_ATTEMPTS_PER_MINUTE:
            return self._made[0][0] + _MINUTE - now
        self._made.append((now, client))
        return 0.0


class Door:
    """Compares what somebody gives with the token.

    Args:
        read_token: reads it from its place; blocks, and may raise `SecretError`.
    """

    def __init__(self, read_token: Callable[[], str]) -> None:
        self._read_token = read_token
        self._reading = asyncio.Lock()

    async def digest_if_right(self, given: str) -> bytes | None:
        """Return the token's digest when it is the one that was given.

        Raises:
            SecretError: it cannot be read.
            WeakTokenError: it is too short to guard anything.
        """
        async with self._reading:  # it may be a command: one at a time
            token = await asyncio.to_thread(self._read_token)
        if len(token) < LEAST_CHARACTERS:
            raise WeakTokenError
        wanted, got = _digest(token), _digest(given)
        return wanted if hmac.compare_digest(wanted, got) else None


class WeakTokenError(MailferryError):
    """The configured token has fewer than `LEAST_CHARACTERS`."""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
