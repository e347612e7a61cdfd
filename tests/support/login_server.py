"""A POP3 or SMTP server for which only the login matters: every mechanism, granted, refused, or echoed back."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ssl
from collections.abc import Generator
from typing import Literal

from mailferry.protocol.sasl_exchange import ChannelBinding
from support.raw_server import RawServer
from support.scram_server import ScramServer

Kind = Literal["pop3", "smtp"]
Verdict = Literal["granted", "refused", "echoed"]
"""`echoed` is refused with the client's own words in the reply, as some servers do."""

_ITERATIONS = 4096
_SALT = b"salt of the server"
_CHALLENGE = b"<1896.697170952@login.example.org>"
_Exchange = Generator[bytes | None, bytes, None]


class LoginServer(RawServer):
    """Listens on loopback.

    Attributes:
        logins: verdicts that were given.
        lines: what clients sent, oldest first.
        binding: what -PLUS forms must be bound to; None: `tls-unique` of the link.
    """

    def __init__(self, kind: Kind, secret: str, verdict: Verdict, *mechanisms: str) -> None:
        super().__init__()
        self.verdict = verdict
        self.logins = 0
        self.lines: list[bytes] = []
        self.binding: ChannelBinding | None = None
        self._kind = kind
        self._secret = secret.encode()
        self._mechanisms = mechanisms
        self._pending: dict[asyncio.Transport, bytes] = {}
        self._exchanges: dict[asyncio.Transport, _Exchange] = {}
        self._content: set[asyncio.Transport] = set()
        self.on_open = lambda transport: transport.write(self._greeting())
        self.on_data = self._take

    def _greeting(self) -> bytes:
        return b"+OK ready " + _CHALLENGE + b"\r\n" if self._kind == "pop3" else b"220 login.example.org\r\n"

    def _take(self, transport: asyncio.Transport, data: bytes) -> None:
        data = self._pending.pop(transport, b"") + data
        *lines, rest = data.split(b"\r\n")
        self._pending[transport] = rest
        for line in lines:
            self.lines.append(line)
            transport.write(self._answer(transport, line))

    def _answer(self, transport: asyncio.Transport, line: bytes) -> bytes:
        exchange = self._exchanges.get(transport)
        if exchange is not None:
            return self._go_on(transport, exchange, line)
        if transport in self._content:
            return self._content_line(transport, line)
        verb, _, argument = line.partition(b" ")
        if verb == b"AUTH":
            return self._begin(transport, argument)
        return self._pop3(verb, line) if self._kind == "pop3" else self._smtp(transport, verb)

    def _pop3(self, verb: bytes, line: bytes) -> bytes:
        if verb in (b"PASS", b"APOP", b"RPOP"):
            return self._judge(line)
        sasl = b"SASL " + " ".join(self._mechanisms).encode() + b"\r\n" if self._mechanisms else b""
        return {
            b"CAPA": b"+OK\r\nUSER\r\nUIDL\r\n" + sasl + b".\r\n",
            b"STAT": b"+OK 0 0\r\n",
            b"LIST": b"+OK\r\n.\r\n",
            b"UIDL": b"+OK\r\n.\r\n",
        }.get(verb, b"+OK\r\n")

    def _smtp(self, transport: asyncio.Transport, verb: bytes) -> bytes:
        if verb == b"DATA":
            self._content.add(transport)
        offer = b"250-login.example.org\r\n250 AUTH " + " ".join(self._mechanisms).encode() + b"\r\n"
        return {b"EHLO": offer, b"DATA": b"354 go\r\n", b"QUIT": b"221 bye\r\n"}.get(verb, b"250 ok\r\n")

    def _content_line(self, transport: asyncio.Transport, line: bytes) -> bytes:
        if line != b".":
            return b""
        self._content.discard(transport)
        return b"250 taken\r\n"

    # -- SASL: a generator is sent the client's octets and yields challenges; None is the end

    def _begin(self, transport: asyncio.Transport, argument: bytes) -> bytes:
        name, _, initial = argument.partition(b" ")
        exchange = self._exchanges[transport] = self._exchange(name, transport)
        next(exchange)  # on to where it waits for the client's first octets
        if initial:
            return self._go_on(transport, exchange, initial)
        return self._go_on(transport, exchange, b"") if name in _SERVER_FIRST else self._challenge(b"")

    def _exchange(self, name: bytes, transport: asyncio.Transport) -> _Exchange:
        plain = {b"PLAIN": _plain, b"LOGIN": _login, b"CRAM-MD5": _cram_md5, b"EXTERNAL": _plain}
        if name in plain:
            return plain[name]()
        if name in (b"XOAUTH2", b"OAUTHBEARER"):
            return self._token(b"" if name == b"XOAUTH2" else b"\x01")
        digest = "sha256" if b"256" in name else "sha1"
        return self._bound(digest, transport) if name.endswith(b"-PLUS") else self._scram(digest)

    def _go_on(self, transport: asyncio.Transport, exchange: _Exchange, line: bytes) -> bytes:
        challenge = exchange.send(base64.b64decode(line))
        if challenge is not None:
            return self._challenge(challenge)
        del self._exchanges[transport]
        return self._judge(line)

    def _challenge(self, challenge: bytes) -> bytes:
        return (b"+ " if self._kind == "pop3" else b"334 ") + base64.b64encode(challenge) + b"\r\n"

    def _judge(self, line: bytes) -> bytes:
        self.logins += 1
        if self.verdict == "granted":
            return b"+OK welcome\r\n" if self._kind == "pop3" else b"235 2.7.0 welcome\r\n"
        echo = b" to " + line + b" of " + self._secret if self.verdict == "echoed" else b""
        return (b"-ERR [AUTH] no" if self._kind == "pop3" else b"535 5.7.8 no") + echo + b"\r\n"

    def _token(self, dummy: bytes) -> _Exchange:
        yield None
        if self.verdict != "granted":
            answer = yield b'{"status":"401","schemes":"bearer"}'
            assert answer == dummy
        yield None

    def _scram(self, digest: str) -> _Exchange:
        """RFC 5802 s.3, the server's side; whoever asks is taken for the right one."""
        client_first = (yield None)[3:]
        nonce = client_first.rpartition(b"r=")[2] + b"server"
        server_first = b"r=%s,s=%s,i=%d" % (nonce, base64.b64encode(_SALT), _ITERATIONS)
        client_final = (yield server_first).rpartition(b",p=")[0]
        if self.verdict != "granted":
            yield None
        salted = hashlib.pbkdf2_hmac(digest, self._secret, _SALT, _ITERATIONS)
        server_key = hmac.digest(salted, b"Server Key", digest)
        spoken = b",".join((client_first, server_first, client_final))
        yield b"v=" + base64.b64encode(hmac.digest(server_key, spoken, digest))
        yield None

    def _bound(self, digest: str, transport: asyncio.Transport) -> _Exchange:
        """A -PLUS form, of which everything is checked: the verdict follows from it."""
        binding = self.binding or ChannelBinding("tls-unique", _finished(transport))
        server = ScramServer(digest, self._secret.decode(), binding=binding, offers_plus=True)
        client_final = yield server.first((yield None))
        if client_final:
            yield server.last(client_final)
        self.verdict = "granted" if server.accepted else "refused"
        yield None


def _finished(transport: asyncio.Transport) -> bytes:
    tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
    return tls.get_channel_binding("tls-unique") or b""


_SERVER_FIRST = (b"LOGIN", b"CRAM-MD5")


def _plain() -> _Exchange:
    yield None
    yield None


def _login() -> _Exchange:
    yield None
    yield b"Username:"
    yield b"Password:"
    yield None


def _cram_md5() -> _Exchange:
    yield None
    yield _CHALLENGE
    yield None
