"""An SMTP server with a script of faults (RFC 5321, 3030, 3207, 4954, 1985).

It takes what it is told to take and remembers it octet for octet. It also keeps
a list of what a client did that RFC 5321 forbids: `violations` is empty when
all is well.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from mailferry.sandbox.line_link import LineLink
from mailferry.sandbox.link_server import LinkServer
from support.faults import GREETING, Fault, Faults, deliver

FINAL = b"FINAL"
"""The verb for the end of a message's data, by dot or by BDAT LAST."""
AUTH_RESPONSE = b"AUTH-RESPONSE"
"""The verb for the client's lines within AUTH."""
MAX_MESSAGE_OCTETS = 128 * 1024 * 1024
MAX_REMEMBERED_COMMANDS = 100_000
IDLE_TIMEOUT_SECONDS = 120.0
_END_OF_DATA = b"\r\n.\r\n"
_BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_PATH = re.compile(rb"(?:FROM|TO):<([^>]*)>(.*)", re.IGNORECASE)
_CRAM_CHALLENGE = b"<4711.1@scripted.example.org>"


@dataclass(frozen=True, slots=True)
class SmtpFeatures:
    """What the server offers; STARTTLS follows from having a TLS context."""

    ehlo: bool = True
    pipelining: bool = True
    size_octets: int | None = MAX_MESSAGE_OCTETS
    eightbitmime: bool = True
    smtputf8: bool = True
    chunking: bool = False
    enhanced_status_codes: bool = True
    etrn: bool = True
    auth_mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN", "CRAM-MD5")


@dataclass(frozen=True, slots=True)
class AcceptedMessage:
    """A message for which the server took responsibility, told to the client or not."""

    envelope_sender: bytes
    recipients: tuple[bytes, ...]
    content: bytes
    mail_parameters: bytes
    session_number: int
    accepted_at: float

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


class ScriptedSmtpServer(LinkServer):
    """An SMTP server that misbehaves on cue.

    With `credentials` (user name to password) MAIL needs AUTH.

    Attributes:
        faults: the script.
        accepted: the messages, in order of acceptance.
        commands: every command line that clients sent, oldest first.
        violations: what clients did against RFC 5321, in words.
        on_accept: called for each message, before its reply leaves.
        counts: `sessions`, and each verb.
    """

    def __init__(
        self,
        *faults: Fault,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        features: SmtpFeatures | None = None,
        credentials: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(tls=tls, implicit_tls=implicit_tls)
        self.faults = Faults(*faults)
        self.features = features or SmtpFeatures()
        self.credentials = credentials
        self.accepted: list[AcceptedMessage] = []
        self.commands: deque[bytes] = deque(maxlen=MAX_REMEMBERED_COMMANDS)
        self.violations: list[str] = []
        self.on_accept: Callable[[AcceptedMessage], None] = lambda _message: None

    def make_session(self) -> LineLink:
        """Build a session that looks at the script before each reply."""
        return _SmtpSession(self)


class _SmtpSession(LineLink):
    def __init__(self, server: ScriptedSmtpServer) -> None:
        super().__init__(server, idle_timeout_seconds=IDLE_TIMEOUT_SECONDS)
        self._server = server
        self._session_number = 0
        self._greeted = False
        self._logged_in = False
        self._in_data = False
        self._searched = 0
        self._chunk_octets: int | None = None
        self._chunk_is_last = False
        self._user: bytes | None = None
        self._continuation: Callable[[bytes], bytes] | None = None
        self._after_reply: Callable[[], None] | None = None
        self._reset()

    def _reset(self) -> None:
        self._sender: bytes | None = None
        self._mail_parameters = b""
        self._recipients: list[bytes] = []
        self._content = bytearray()

    # --- the link -----------------------------------------------------------

    def begin(self) -> None:
        self._session_number = self._server.counts["sessions"]
        fault = self._server.faults.find(GREETING, b"")
        greeting = b"220 scripted.example.org ESMTP\r\n"
        if fault is None:
            self.send(greeting)
        else:
            deliver(self, greeting if fault.reply is None else fault.reply, fault.delivery, lambda: None)

    def end(self) -> None:
        self._content.clear()

    def too_many_sessions(self) -> None:
        self.send(b"421 4.3.2 too many sessions\r\n")

    def line_too_long(self) -> None:
        self.send(b"500 5.5.2 line too long\r\n")

    def take(self) -> bool:
        if self._in_data:
            return self._take_data()
        if self._chunk_octets is not None:
            return self._take_chunk(self._chunk_octets)
        return super().take()

    def line_received(self, line: bytes) -> None:
        if self._continuation is not None:
            self._perform(AUTH_RESPONSE, line)
            return
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        if self.input and not self._server.features.pipelining and verb != b"BDAT":
            self._server.violations.append(f"input after {verb!r}, but PIPELINING is not offered")
        self._perform(verb, argument.strip())

    # --- one command ----------------------------------------------------------

    def _perform(self, verb: bytes, argument: bytes) -> None:
        self._server.commands.append(verb + b" " + argument if argument else verb)
        if verb == b"BDAT" and self._begin_chunk(argument):
            return
        self._answer(verb, argument, lambda: self._execute(verb, argument))

    def _answer(self, verb: bytes, argument: bytes, execute: Callable[[], bytes]) -> None:
        self._server.counts[verb.decode("ascii", "replace")] += 1
        fault = self._server.faults.find(verb, argument, inside=verb == FINAL)
        if fault is None:
            deliver(self, execute(), Fault(verb).delivery, self._finish)
            return
        reply = execute() if fault.has_effect else self._not_done(verb)
        deliver(self, reply if fault.reply is None else fault.reply, fault.delivery, self._finish)

    def _not_done(self, verb: bytes) -> bytes:
        if verb == AUTH_RESPONSE:
            self._continuation = None
        if verb == FINAL:
            self._reset()
        if verb == b"QUIT":
            self._after_reply = self.close
        return b"451 4.3.0 not done\r\n"

    def _finish(self) -> None:
        after, self._after_reply = self._after_reply, None
        if after is not None:
            after()

    def _execute(self, verb: bytes, argument: bytes) -> bytes:
        if self._continuation is not None:
            continuation, self._continuation = self._continuation, None
            return continuation(argument)
        command = self._COMMANDS.get(verb)
        if command is None:
            return b"500 5.5.2 command not recognized\r\n"
        return command(self, argument)

    def _helo(self, argument: bytes) -> bytes:
        self._greeted = True
        self._reset()
        return b"250 scripted.example.org\r\n"

    def _ehlo(self, argument: bytes) -> bytes:
        features = self._server.features
        if not features.ehlo:
            return b"500 5.5.2 command not recognized\r\n"
        self._helo(argument)
        offers = [word for word, offered in self._offers(features) if offered]
        lines = ["scripted.example.org", *offers]
        marks = ["250-"] * (len(lines) - 1) + ["250 "]
        return "".join(f"{mark}{line}\r\n" for mark, line in zip(marks, lines, strict=True)).encode("ascii")

    def _offers(self, features: SmtpFeatures) -> list[tuple[str, bool]]:
        return [
            ("PIPELINING", features.pipelining),
            (f"SIZE {features.size_octets}", features.size_octets is not None),
            ("8BITMIME", features.eightbitmime),
            ("SMTPUTF8", features.smtputf8),
            ("CHUNKING", features.chunking),
            ("ENHANCEDSTATUSCODES", features.enhanced_status_codes),
            ("ETRN", features.etrn),
            ("STARTTLS", self._server.can_start_tls and not self.protected),
            ("AUTH " + " ".join(features.auth_mechanisms), self._server.credentials is not None),
        ]

    def _starttls(self, argument: bytes) -> bytes:
        if not self._server.can_start_tls or self.protected:
            return b"503 5.5.1 no TLS here\r\n"
        self._greeted = False
        self._reset()
        self._after_reply = self.start_tls
        return b"220 2.0.0 go ahead\r\n"

    def _mail(self, argument: bytes) -> bytes:
        path = _PATH.fullmatch(argument)
        if not self._greeted or self._sender is not None:
            return b"503 5.5.1 not now\r\n"
        if self._server.credentials is not None and not self._logged_in:
            return b"530 5.7.0 authentication required\r\n"
        if path is None:
            return b"501 5.5.4 syntax\r\n"
        limit, size = self._server.features.size_octets, re.search(rb"\bSIZE=(\d{1,15})\b", path[2])
        if limit is not None and size is not None and int(size[1]) > limit:
            return b"552 5.3.4 message too big\r\n"
        self._sender, self._mail_parameters = path[1], path[2].strip()
        return b"250 2.1.0 OK\r\n"

    def _rcpt(self, argument: bytes) -> bytes:
        path = _PATH.fullmatch(argument)
        if self._sender is None:
            return b"503 5.5.1 MAIL first\r\n"
        if path is None or not path[1]:
            return b"501 5.5.4 syntax\r\n"
        self._recipients.append(path[1])
        return b"250 2.1.5 OK\r\n"

    def _rset(self, argument: bytes) -> bytes:
        self._reset()
        return b"250 2.0.0 OK\r\n"

    def _noop(self, argument: bytes) -> bytes:
        return b"250 2.0.0 OK\r\n"

    def _etrn(self, argument: bytes) -> bytes:
        if not self._server.features.etrn or not self._greeted:
            return b"500 5.5.2 command not recognized\r\n"
        return b"250 2.0.0 OK, queuing for node " + argument + b" started\r\n"

    def _quit(self, argument: bytes) -> bytes:
        self._after_reply = self.close
        return b"221 2.0.0 bye\r\n"

    # --- AUTH (RFC 4954) --------------------------------------------------------

    def _auth(self, argument: bytes) -> bytes:
        mechanism, _, initial = argument.partition(b" ")
        name = mechanism.upper().decode("ascii", "replace")
        if self._server.credentials is None or name not in self._server.features.auth_mechanisms:
            return b"504 5.5.4 unknown mechanism\r\n"
        begin = {"PLAIN": self._auth_plain, "LOGIN": self._auth_login, "CRAM-MD5": self._auth_cram_md5}[name]
        return begin(initial)

    def _auth_plain(self, initial: bytes) -> bytes:
        if not initial:
            self._continuation = self._auth_plain
            return b"334 \r\n"
        parts = base64.b64decode(initial).split(b"\0")
        return self._log_in(parts[1], lambda known: len(parts) == 3 and known == parts[2])

    def _auth_login(self, initial: bytes) -> bytes:
        if initial:
            self._user = base64.b64decode(initial)
            self._continuation = self._auth_login_password
            return b"334 " + base64.b64encode(b"Password:") + b"\r\n"
        self._continuation = self._auth_login
        return b"334 " + base64.b64encode(b"Username:") + b"\r\n"

    def _auth_login_password(self, line: bytes) -> bytes:
        return self._log_in(self._user or b"", lambda known: known == base64.b64decode(line))

    def _auth_cram_md5(self, initial: bytes) -> bytes:
        self._continuation = self._auth_cram_md5_response
        return b"334 " + base64.b64encode(_CRAM_CHALLENGE) + b"\r\n"

    def _auth_cram_md5_response(self, line: bytes) -> bytes:
        user, _, digest = base64.b64decode(line).rpartition(b" ")

        def matches(known: bytes) -> bool:
            return hmac.new(known, _CRAM_CHALLENGE, "md5").hexdigest().encode("ascii") == digest

        return self._log_in(user, matches)

    def _log_in(self, user: bytes, matches: Callable[[bytes], bool]) -> bytes:
        known = (self._server.credentials or {}).get(user.decode("utf-8", "replace"))
        if known is None or not matches(known.encode()):
            return b"535 5.7.8 authentication credentials invalid\r\n"
        self._logged_in = True
        return b"235 2.7.0 authentication successful\r\n"

    # --- DATA and BDAT ----------------------------------------------------------

    def _data(self, argument: bytes) -> bytes:
        if self._sender is None:
            return b"503 5.5.1 MAIL first\r\n"
        if not self._recipients:
            return b"554 5.5.1 no valid recipients\r\n"
        self._in_data = True
        # The dot may come at once: an empty message is `.` CRLF.
        self.input[:0] = b"\r\n"
        self._searched = 0
        return b"354 go ahead\r\n"

    def _take_data(self) -> bool:
        end = self.input.find(_END_OF_DATA, self._searched)
        if end < 0:
            self._searched = max(0, len(self.input) - len(_END_OF_DATA) + 1)
            if len(self.input) > MAX_MESSAGE_OCTETS:
                self.abort()
            return False
        self._in_data = False
        self._content += bytes(self.input[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]
        del self.input[: end + len(_END_OF_DATA)]
        self._end_message()
        return True

    def _begin_chunk(self, argument: bytes) -> bool:
        octets, _, last = argument.partition(b" ")
        if not self._server.features.chunking or not octets.isdigit() or len(octets) > 9:
            return False
        self._chunk_octets, self._chunk_is_last = int(octets), last.upper() == b"LAST"
        return True

    def _take_chunk(self, octets: int) -> bool:
        if len(self.input) < octets:
            return False
        self._chunk_octets = None
        self._content += self.input[:octets]
        del self.input[:octets]
        if self._chunk_is_last:
            self._end_message()
        else:
            self._answer(b"BDAT", b"", lambda: b"250 2.0.0 chunk taken\r\n")
        return True

    def _end_message(self) -> None:
        if self._sender is None or not self._recipients:
            # RFC 3030 s.2: a chunk that comes without a transaction is read and refused.
            self._reset()
            self._answer(b"BDAT", b"", lambda: b"503 5.5.1 no transaction\r\n")
            return
        self._answer(FINAL, bytes(self._content), self._accept)

    def _accept(self) -> bytes:
        message = AcceptedMessage(
            envelope_sender=self._sender or b"",
            recipients=tuple(self._recipients),
            content=bytes(self._content),
            mail_parameters=self._mail_parameters,
            session_number=self._session_number,
            accepted_at=time.time(),
        )
        self._reset()
        self._inspect(message)
        self._server.accepted.append(message)
        self._server.on_accept(message)
        return b"250 2.0.0 OK: taken as %d\r\n" % len(self._server.accepted)

    def _inspect(self, message: AcceptedMessage) -> None:
        number = len(self._server.accepted) + 1
        if _BARE_LINE_END.search(message.content):
            # RFC 5321 s.2.3.8: the way into SMTP smuggling.
            self._server.violations.append(f"message {number}: a bare CR or LF")
        declared = b"BODY=8BITMIME" in message.mail_parameters.upper()
        if not message.content.isascii() and not (declared and self._server.features.eightbitmime):
            self._server.violations.append(f"message {number}: 8-bit octets without BODY=8BITMIME")

    _COMMANDS: ClassVar[Mapping[bytes, Callable[[_SmtpSession, bytes], bytes]]] = {
        b"AUTH": _auth,
        b"DATA": _data,
        b"EHLO": _ehlo,
        b"ETRN": _etrn,
        b"HELO": _helo,
        b"MAIL": _mail,
        b"NOOP": _noop,
        b"QUIT": _quit,
        b"RCPT": _rcpt,
        b"RSET": _rset,
        b"STARTTLS": _starttls,
    }
