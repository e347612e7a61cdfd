"""One POP3 session of the sandbox (RFC 1939, 2449, 2595, 5034).

The machine: a line comes in, `perform` runs it, exactly one reply goes out, in
order.

    AUTHORIZATION --login--> TRANSACTION --QUIT--> UPDATE --> closed
          ╰----QUIT, lost link----------lost link-----------> closed (nothing removed)
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol

from mailferry.sandbox import pop3_auth
from mailferry.sandbox.line_link import LineLink, LinkOwner
from mailferry.sandbox.maildrop import SandboxFeatures, SandboxMaildrop
from mailferry.sandbox.open_maildrop import OpenMaildrop, Refusal

SASL_RESPONSE = b"SASL-RESPONSE"
"""The verb under which `perform` gets the client's lines within AUTH."""
MAX_LOGIN_FAILURES = 5


class SessionOwner(LinkOwner, Protocol):
    """What a session needs from its server."""

    maildrops: Mapping[str, SandboxMaildrop]
    features: SandboxFeatures
    greeting: str
    can_start_tls: bool
    counts: Counter[str]


class Pop3Session(LineLink):
    """Speaks POP3 with one client."""

    def __init__(self, owner: SessionOwner, *, idle_timeout_seconds: float) -> None:
        super().__init__(owner, idle_timeout_seconds=idle_timeout_seconds)
        self.owner = owner
        self._stamp = f"<{secrets.token_hex(8)}@sandbox.example.org>"
        self._user = b""
        self._login_failures = 0
        self._continuation: Callable[[bytes], bytes] | None = None
        self._after_reply: Callable[[], None] | None = None
        self._maildrop: OpenMaildrop | None = None

    def begin(self) -> None:
        """Greet (RFC 1939 s.4)."""
        self.greet()

    def end(self) -> None:
        """Release the maildrop; what was marked stays (RFC 1939 s.6)."""
        self._release_maildrop()

    def too_many_sessions(self) -> None:
        """Say so."""
        self.send(b"-ERR [SYS/TEMP] too many sessions\r\n")

    def line_received(self, line: bytes) -> None:
        """Take a command, or the next line of a SASL exchange."""
        if self.input and not self.owner.features.pipelining:
            self.owner.counts["discarded"] += 1
            self.input.clear()
        if self._continuation is not None:
            self.perform(SASL_RESPONSE, line)
            return
        verb, _, argument = line.partition(b" ")
        self.perform(verb.upper(), argument)

    def line_too_long(self) -> None:
        """Say so."""
        self.send(b"-ERR line too long\r\n")

    def greet(self) -> None:
        """Send the greeting."""
        self.send(self.greeting_line())

    def greeting_line(self) -> bytes:
        """Return the greeting; the timestamp in it is the offer of APOP (RFC 1939 s.7)."""
        stamp = f" {self._stamp}" if self.owner.features.has_apop else ""
        return f"+OK {self.owner.greeting}{stamp}\r\n".encode()

    def perform(self, verb: bytes, argument: bytes) -> None:
        """Run one command and send its reply; tests override this to misbehave."""
        self.send(self.execute(verb, argument))
        self.finish_command()

    def execute(self, verb: bytes, argument: bytes) -> bytes:
        """Run one command; return the whole reply."""
        try:
            if self._continuation is not None:
                return self._continuation(argument)
            return self._run_command(verb, argument)
        except Refusal as refusal:
            self._continuation = None
            return f"-ERR {self._response_text(str(refusal))}\r\n".encode()

    def _run_command(self, verb: bytes, argument: bytes) -> bytes:
        handler = self._AUTHORIZATION.get(verb)
        if self._maildrop is None:
            if handler is None:
                raise Refusal("unknown command, or not now")
            return handler(self, argument)
        if verb in (b"CAPA", b"QUIT"):
            return self._capa(argument) if verb == b"CAPA" else self._quit(argument)
        reply = self._maildrop.run(verb, argument)
        self.owner.counts[verb.decode("ascii").lower()] += 1
        return reply

    def finish_command(self) -> None:
        """Do what has to follow the reply: close, or start TLS."""
        after, self._after_reply = self._after_reply, None
        if after is not None:
            after()

    def _response_text(self, text: str) -> str:
        if self.owner.features.resp_codes or not text.startswith("["):
            return text
        return text.partition("] ")[2]

    # --- any state ------------------------------------------------------------

    def _capa(self, _argument: bytes) -> bytes:
        features = self.owner.features
        if not features.has_capa:
            raise Refusal("unknown command")
        lines = ["+OK capability list follows", "USER"]
        lines += [word for word, offered in self._optional_capabilities() if offered]
        if self._maildrop is None:
            lines += ["STLS"] * (self.owner.can_start_tls and not self.protected)
            lines += ["SASL " + " ".join(features.sasl_mechanisms)] * bool(features.sasl_mechanisms)
        lines += [f"IMPLEMENTATION {features.implementation}", ".", ""]
        return "\r\n".join(lines).encode("ascii")

    def _optional_capabilities(self) -> list[tuple[str, bool]]:
        features = self.owner.features
        return [
            ("TOP", features.has_top),
            ("UIDL", features.has_uidl),
            ("PIPELINING", features.pipelining),
            ("RESP-CODES", features.resp_codes),
            ("AUTH-RESP-CODE", features.resp_codes),
            (f"LOGIN-DELAY {features.login_delay_seconds:.0f}", features.login_delay_seconds > 0),
            (f"EXPIRE {features.expire_days}", features.expire_days is not None),
        ]

    def _quit(self, _argument: bytes) -> bytes:
        self._after_reply = self.close
        if self._maildrop is not None:
            self.owner.counts["deleted"] += self._maildrop.update()
            self._release_maildrop()
        return b"+OK bye\r\n"

    # --- AUTHORIZATION ----------------------------------------------------------

    def _stls(self, _argument: bytes) -> bytes:
        if not self.owner.can_start_tls or self.protected:
            raise Refusal("no TLS here")
        self._user = b""
        self._after_reply = self.start_tls
        return b"+OK begin TLS negotiation\r\n"

    def _user_command(self, argument: bytes) -> bytes:
        self._require_login_allowed()
        if not argument:
            raise Refusal("USER needs a name")
        self._user = argument
        return b"+OK\r\n"

    def _pass(self, argument: bytes) -> bytes:
        if not self._user:
            raise Refusal("USER first")
        password, user = argument, self._user
        self._user = b""
        return self._log_in(user, lambda known: secrets.compare_digest(known, password))

    def _apop(self, argument: bytes) -> bytes:
        self._require_login_allowed()
        if not self.owner.features.has_apop:
            raise Refusal("unknown command")
        user, _, digest = argument.rpartition(b" ")
        stamp = self._stamp.encode("ascii")
        return self._log_in(user, lambda known: pop3_auth.apop_digest_matches(stamp, known, digest))

    def _auth(self, argument: bytes) -> bytes:
        self._require_login_allowed()
        mechanism, _, initial = argument.partition(b" ")
        offered = self.owner.features.sasl_mechanisms
        if mechanism.upper().decode("ascii", "replace") not in offered:
            raise Refusal("unknown SASL mechanism")
        if mechanism.upper() == b"CRAM-MD5":
            return self._challenge_cram_md5()
        if initial:
            return self._finish_plain(initial)
        self._continuation = self._finish_plain
        return b"+ \r\n"

    def _challenge_cram_md5(self) -> bytes:
        challenge = f"<{secrets.token_hex(8)}@sandbox.example.org>".encode("ascii")
        self._continuation = lambda line: self._finish_cram_md5(challenge, line)
        return b"+ " + base64.b64encode(challenge) + b"\r\n"

    def _finish_plain(self, line: bytes) -> bytes:
        user, password = _parsed(line, pop3_auth.parse_plain)
        self._continuation = None
        return self._log_in(user, lambda known: secrets.compare_digest(known, password))

    def _finish_cram_md5(self, challenge: bytes, line: bytes) -> bytes:
        user, digest = _parsed(line, pop3_auth.parse_cram_md5)
        self._continuation = None
        return self._log_in(user, lambda known: pop3_auth.cram_md5_matches(challenge, known, digest))

    def _require_login_allowed(self) -> None:
        if not (self.protected or self.owner.features.cleartext_login):
            raise Refusal("[AUTH] use TLS first")

    def _log_in(self, user: bytes, matches: Callable[[bytes], bool]) -> bytes:
        maildrop = self.owner.maildrops.get(user.decode("utf-8", "replace"))
        if maildrop is None or not matches(maildrop.password.encode()):
            self._login_failures += 1
            if self._login_failures >= MAX_LOGIN_FAILURES:
                self._after_reply = self.close
            self.owner.counts["refused"] += 1
            raise Refusal("[AUTH] wrong user name or password")
        if maildrop.locked:
            # RFC 2449 s.8.1.2: the credentials were right, another session has the lock.
            raise Refusal("[IN-USE] another session has this maildrop")
        self._require_delay_over(maildrop)
        return self._lock_maildrop(maildrop)

    def _require_delay_over(self, maildrop: SandboxMaildrop) -> None:
        now, last = asyncio.get_running_loop().time(), maildrop.last_login
        if last is not None and now - last < self.owner.features.login_delay_seconds:
            raise Refusal("[LOGIN-DELAY] too soon after the last login")
        maildrop.last_login = now

    def _lock_maildrop(self, maildrop: SandboxMaildrop) -> bytes:
        self._maildrop = OpenMaildrop(maildrop, self.owner.features)
        self.owner.counts["logins"] += 1
        return b"+OK maildrop has %d messages\r\n" % len(self._maildrop)

    def _release_maildrop(self) -> None:
        if self._maildrop is not None:
            self._maildrop.unlock()
            self._maildrop = None

    _AUTHORIZATION: ClassVar[Mapping[bytes, Callable[[Pop3Session, bytes], bytes]]] = {
        b"APOP": _apop,
        b"AUTH": _auth,
        b"CAPA": _capa,
        b"PASS": _pass,
        b"QUIT": _quit,
        b"STLS": _stls,
        b"USER": _user_command,
    }


def _parsed(line: bytes, parse: Callable[[bytes], tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """Decode and parse a SASL response; every way in which it can be wrong is a Refusal."""
    if line == b"*":
        raise Refusal("[AUTH] cancelled")  # RFC 5034 s.4
    try:
        return parse(pop3_auth.decode_response(line))
    except pop3_auth.MalformedCredentialsError as error:
        raise Refusal(f"malformed response: {error}") from error
