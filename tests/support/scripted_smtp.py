"""An SMTP or LMTP server with a script of faults (RFC 5321, 2033, 3030, 3207, 4954, 1985).

It takes what it is told to take and remembers it octet for octet. It also keeps
a list of what a client did that RFC 5321 forbids: `violations` is empty when
all is well.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from mailferry.sandbox.line_link import LineLink
from mailferry.sandbox.link_server import LinkServer
from mailferry.sandbox.maildrop import CRLF
from support.faults import GREETING, Fault, Faults, deliver
from support.scripted_auth import ScriptedAuth

FINAL = b"FINAL"
"""The verb for the end of a message's data, by dot or by BDAT LAST; its argument is the message.

With LMTP it comes once for each recipient, and the recipient is its argument."""
CONTENT = b"CONTENT"
"""The verb for a message's data of which a part has come; it needs no reply, but may get one."""
AUTH_RESPONSE = b"AUTH-RESPONSE"
"""The verb for the client's lines within AUTH."""
MAX_MESSAGE_OCTETS = 128 * 1024 * 1024
MAX_REMEMBERED_COMMANDS = 100_000
IDLE_TIMEOUT_SECONDS = 120.0
_END_OF_DATA = re.compile(rb"\r\n\.\r\n")
_ANY_END_OF_DATA = re.compile(rb"(?:\r\n|\r|\n)\.(?:\r\n|\r|\n)")
_LONGEST_END_OCTETS = 5
_BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_PATH = re.compile(rb"(?:FROM|TO):<([^>]*)>(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SmtpFeatures:
    """What the server offers; STARTTLS follows from having a TLS context.

    Attributes:
        lmtp: speaks LMTP (RFC 2033): LHLO, and one reply for each recipient after the data.
        lax_end: takes a dot between any two line ends for the end of the data, and bare ones
            for line ends, as servers do that can be tricked into taking one message for two.
    """

    ehlo: bool = True
    lmtp: bool = False
    lax_end: bool = False
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
        self._auth_exchange = ScriptedAuth(server.credentials)
        self._in_data = False
        self._searched = 0
        self._content_coming = False
        self._chunk_octets: int | None = None
        self._chunk_is_last = False
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
        if self._auth_exchange.under_way:
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

    def _answer(
        self,
        verb: bytes,
        argument: bytes,
        execute: Callable[[], bytes],
        then: Callable[[], None] | None = None,
    ) -> None:
        self._server.counts[verb.decode("ascii", "replace")] += 1
        fault = self._server.faults.find(verb, argument, inside=verb == FINAL)
        if fault is None:
            deliver(self, execute(), Fault(verb).delivery, then or self._finish)
            return
        reply = execute() if fault.has_effect else self._not_done(verb)
        deliver(self, reply if fault.reply is None else fault.reply, fault.delivery, then or self._finish)

    def _not_done(self, verb: bytes) -> bytes:
        if verb == AUTH_RESPONSE:
            self._auth_exchange.cancel()
        if verb == b"QUIT":
            self._after_reply = self.close
        return b"451 4.3.0 not done\r\n"

    def _finish(self) -> None:
        after, self._after_reply = self._after_reply, None
        if after is not None:
            after()

    def _execute(self, verb: bytes, argument: bytes) -> bytes:
        if self._auth_exchange.under_way:
            return self._auth_exchange.go_on(argument)
        command = self._COMMANDS.get(verb)
        if command is None:
            return b"500 5.5.2 command not recognized\r\n"
        return command(self, argument)

    def _helo(self, argument: bytes) -> bytes:
        if self._server.features.lmtp:  # RFC 2033 s.4.1
            return b"500 5.5.1 LHLO it is\r\n"
        self._greeted = True
        self._reset()
        return b"250 scripted.example.org\r\n"

    def _ehlo(self, argument: bytes) -> bytes:
        features = self._server.features
        if not features.ehlo or features.lmtp:
            return b"500 5.5.2 command not recognized\r\n"
        return self._greet(features)

    def _lhlo(self, argument: bytes) -> bytes:
        features = self._server.features
        return self._greet(features) if features.lmtp else b"500 5.5.2 command not recognized\r\n"

    def _greet(self, features: SmtpFeatures) -> bytes:
        self._greeted = True
        self._reset()
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
        if self._server.credentials is not None and not self._auth_exchange.logged_in:
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

    def _auth(self, argument: bytes) -> bytes:
        mechanism, _, initial = argument.partition(b" ")
        name = mechanism.upper().decode("ascii", "replace")
        if self._server.credentials is None or name not in self._server.features.auth_mechanisms:
            return b"504 5.5.4 unknown mechanism\r\n"
        return self._auth_exchange.begin(name, initial)

    # --- DATA and BDAT ----------------------------------------------------------

    def _data(self, argument: bytes) -> bytes:
        if self._sender is None:
            return b"503 5.5.1 MAIL first\r\n"
        if not self._recipients:
            return b"554 5.5.1 no valid recipients\r\n"
        self._in_data = True
        self._content_coming = False
        # The dot may come at once: an empty message is `.` CRLF.
        self.input[:0] = CRLF
        self._searched = 0
        return b"354 go ahead\r\n"

    def _take_data(self) -> bool:
        pattern = _ANY_END_OF_DATA if self._server.features.lax_end else _END_OF_DATA
        end = pattern.search(self.input, self._searched)
        if end is None:
            self._searched = max(0, len(self.input) - _LONGEST_END_OCTETS + 1)
            if len(self.input) > MAX_MESSAGE_OCTETS:
                self.abort()
            elif len(self.input) > len(CRLF):
                self._part_of_content()
            return False
        self._in_data = False
        self._content += bytes(self.input[: end.start()] + CRLF).replace(b"\r\n.", b"\r\n")[len(CRLF) :]
        del self.input[: end.end()]
        self._end_message()
        return True

    def _part_of_content(self) -> None:
        if self._content_coming:
            return
        self._content_coming = True
        fault = self._server.faults.find(CONTENT, bytes(self.input), inside=True)
        if fault is not None:
            deliver(self, fault.reply or b"", fault.delivery, lambda: None)

    def _begin_chunk(self, argument: bytes) -> bool:
        octets, _, last = argument.partition(b" ")
        if not self._server.features.chunking or not octets.isdigit() or len(octets) > 9:
            return False
        self._chunk_octets, self._chunk_is_last = int(octets), last.upper() == b"LAST"
        self._content_coming = False
        return True

    def _take_chunk(self, octets: int) -> bool:
        if len(self.input) < octets:
            if self.input:
                self._part_of_content()
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
        if self._server.features.lmtp:
            self._answer_each(list(self._recipients))
        else:
            self._answer(
                FINAL,
                bytes(self._content),
                lambda: self._accept(tuple(self._recipients)),
                self._end_transaction,
            )

    def _answer_each(self, recipients: list[bytes]) -> None:
        """Reply for each recipient in turn (RFC 2033 s.4.2)."""
        recipient = recipients.pop(0)

        def then() -> None:
            if recipients:
                self._answer_each(recipients)
            else:
                self._end_transaction()

        self._answer(FINAL, recipient, lambda: self._accept((recipient,)), then)

    def _end_transaction(self) -> None:
        self._reset()
        self._finish()

    def _accept(self, recipients: tuple[bytes, ...]) -> bytes:
        message = AcceptedMessage(
            envelope_sender=self._sender or b"",
            recipients=recipients,
            content=bytes(self._content),
            mail_parameters=self._mail_parameters,
            session_number=self._session_number,
            accepted_at=time.time(),
        )
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
        b"LHLO": _lhlo,
        b"MAIL": _mail,
        b"NOOP": _noop,
        b"QUIT": _quit,
        b"RCPT": _rcpt,
        b"RSET": _rset,
        b"STARTTLS": _starttls,
    }
