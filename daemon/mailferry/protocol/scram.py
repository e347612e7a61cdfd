"""SCRAM (RFC 5802, RFC 7677): both sides prove that they know the password.

The server gets nothing that it could use elsewhere, and one that does not know
the password is found out: by a nonce that does not continue ours, by a wrong
signature, or by a yes without one (`finish`). The -PLUS forms also bind the proof to
the TLS connection: one who stands in between with a certificate that we believe has
two connections, and the proof of ours is worth nothing on the other. All forms say in
their first octets what they could have done (RFC 5802 s.6): `p` bound, `y` able to but
the server offers no -PLUS, `n` not able to. The proof covers that word, so a server
that does offer -PLUS sees from a `y` that somebody took its offer away.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import stringprep
from collections.abc import Callable
from typing import ClassVar
from unicodedata import ucd_3_2_0

from mailferry.errors import LocalProtocolError
from mailferry.protocol.sasl_exchange import AuthenticationExchangeError, ChannelBinding

MIN_ITERATIONS = 4096
"""RFC 7677 s.4: the least that is acceptable; fewer help whoever wants to guess."""

MAX_ITERATIONS = 600_000
"""Our own bound: the count costs us the time that the server chooses."""

_MAX_NONCE = 1024
# RFC 5802 s.7: nonce, salt, iteration count, then extensions that we do not know.
_SERVER_FIRST = re.compile(r"r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,9})(?:,[A-Za-z]=.*)?")


class Scram:
    """One SCRAM exchange with SHA-256 or SHA-1; use the classes below.

    Args:
        username: prepared with SASLprep.
        password: prepared with SASLprep.
        nonce: printable ASCII without comma; random when not given.
        binding: of the TLS connection; a -PLUS form needs it.
        offers_plus: whether the server offers a -PLUS form; None if it did not tell.

    Raises:
        LocalProtocolError: name or password cannot be prepared, the nonce is illegal, or
            a -PLUS form has no binding.

    Attributes:
        failure: the server's reason, as `invalid-proof` (RFC 5802 s.7).
    """

    name: ClassVar[str] = ""
    secure_without_tls: ClassVar[bool] = True
    _digest: ClassVar[str] = ""
    _plus: ClassVar[bool] = False

    def __init__(
        self,
        username: str,
        password: str,
        nonce: str | None = None,
        *,
        binding: ChannelBinding | None = None,
        offers_plus: bool | None = None,
    ) -> None:
        self.failure = b""
        self._gs2_header, self._bound = self._bind(binding, offers_plus)
        self._nonce = secrets.token_urlsafe(24) if nonce is None else nonce
        if not re.fullmatch(r"[!-+\--~]+", self._nonce):
            raise LocalProtocolError("SCRAM: not a nonce")
        escaped = saslprep(username).replace("=", "=3D").replace(",", "=2C")  # RFC 5802 s.5.1
        self._password = saslprep(password).encode("utf-8")
        self._client_first_bare = f"n={escaped},r={self._nonce}"
        self._expected_signature = b""
        self._verified = False
        self._next: Callable[[bytes], bytes] = self._on_start

    @classmethod
    def _bind(cls, binding: ChannelBinding | None, offers_plus: bool | None) -> tuple[str, bytes]:
        """Return the gs2-header and the octets to which the proof is bound (RFC 5802 s.6, s.7)."""
        if not cls._plus:
            # "y" accuses whoever took the offer away: only said when the server has told its offers.
            return ("y,," if binding is not None and offers_plus is False else "n,,"), b""
        if binding is None:
            raise LocalProtocolError(f"{cls.name}: this link has no channel binding; it needs TLS")
        return f"p={binding.kind},,", binding.data

    def initial(self) -> bytes:
        """Return the client-first-message."""
        return (self._gs2_header + self._client_first_bare).encode("utf-8")

    def respond(self, challenge: bytes) -> bytes:
        """Answer the server-first- and then the server-final-message.

        Raises:
            AuthenticationExchangeError: the server cannot be believed.
        """
        return self._next(challenge)

    def finish(self) -> None:
        """Check that the server has shown its signature.

        Raises:
            AuthenticationExchangeError: it said yes without one.
        """
        if not self._verified:
            raise AuthenticationExchangeError(
                f"{self.name}: the server did not prove that it knows the password"
            )

    def _on_start(self, challenge: bytes) -> bytes:
        if challenge:
            return self._on_server_first(challenge)
        self._next = self._on_server_first
        return self.initial()

    def _on_server_first(self, challenge: bytes) -> bytes:
        if challenge.startswith(b"e="):
            return self._on_refusal(challenge)  # not in the RFC's grammar, and met: the name or the binding
        server_first = _text(challenge)
        match = _SERVER_FIRST.fullmatch(server_first)
        # RFC 5802 s.5.1: "m=" before the nonce is an extension that must be refused.
        if match is None:
            raise AuthenticationExchangeError(f"{self.name}: server-first-message not understood", challenge)
        self._check_nonce(match[1])
        salt = _base64(match[2])
        iterations = int(match[3])
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise AuthenticationExchangeError(
                f"{self.name}: {iterations} iterations, not between {MIN_ITERATIONS} and {MAX_ITERATIONS}"
            )
        binding = base64.b64encode(self._gs2_header.encode("ascii") + self._bound).decode("ascii")
        without_proof = f"c={binding},r={match[1]}"
        auth_message = f"{self._client_first_bare},{server_first},{without_proof}".encode()
        proof = self._prove(auth_message, salt, iterations)
        self._next = self._on_server_final
        return f"{without_proof},p={base64.b64encode(proof).decode('ascii')}".encode()

    def _check_nonce(self, nonce: str) -> None:
        if not nonce.startswith(self._nonce) or not len(self._nonce) < len(nonce) <= _MAX_NONCE:
            raise AuthenticationExchangeError(f"{self.name}: the server's nonce does not continue ours")

    def _prove(self, auth_message: bytes, salt: bytes, iterations: int) -> bytes:
        """Return the client's proof and keep the signature that the server must show (RFC 5802 s.3)."""
        salted_password = hashlib.pbkdf2_hmac(self._digest, self._password, salt, iterations)
        client_key = hmac.digest(salted_password, b"Client Key", self._digest)
        stored_key = hashlib.new(self._digest, client_key).digest()
        client_signature = hmac.digest(stored_key, auth_message, self._digest)
        server_key = hmac.digest(salted_password, b"Server Key", self._digest)
        self._expected_signature = hmac.digest(server_key, auth_message, self._digest)
        return bytes(a ^ b for a, b in zip(client_key, client_signature, strict=True))

    def _on_server_final(self, challenge: bytes) -> bytes:
        if challenge.startswith(b"e="):
            return self._on_refusal(challenge)
        self._next = self._on_more
        verifier, _, _ = challenge.removeprefix(b"v=").partition(b",")
        signature = _base64(_text(verifier)) if challenge.startswith(b"v=") else b""
        if not hmac.compare_digest(signature, self._expected_signature):
            raise AuthenticationExchangeError(f"{self.name}: the server's signature is wrong", challenge)
        self._verified = True
        return b""

    def _on_refusal(self, challenge: bytes) -> bytes:
        """Note the reason (RFC 5802 s.7) and answer with an empty line.

        The protocol's own -ERR or 535 follows it and says so in its words; a yes would
        fail in `finish`.
        """
        self._next = self._on_more
        self.failure = challenge[2:].partition(b",")[0]
        return b""

    def _on_more(self, challenge: bytes) -> bytes:
        raise AuthenticationExchangeError(f"{self.name}: a challenge after the last one", challenge)


class ScramSha256(Scram):
    """SCRAM-SHA-256 (RFC 7677)."""

    name: ClassVar[str] = "SCRAM-SHA-256"
    _digest: ClassVar[str] = "sha256"


class ScramSha1(Scram):
    """SCRAM-SHA-1 (RFC 5802), for servers that have nothing newer."""

    name: ClassVar[str] = "SCRAM-SHA-1"
    _digest: ClassVar[str] = "sha1"


class ScramSha256Plus(ScramSha256):
    """SCRAM-SHA-256-PLUS: the same, bound to the TLS connection."""

    name: ClassVar[str] = "SCRAM-SHA-256-PLUS"
    _plus: ClassVar[bool] = True


class ScramSha1Plus(ScramSha1):
    """SCRAM-SHA-1-PLUS: the same, bound to the TLS connection."""

    name: ClassVar[str] = "SCRAM-SHA-1-PLUS"
    _plus: ClassVar[bool] = True


def saslprep(text: str, *, stored: bool = False) -> str:
    """Return `text` prepared by SASLprep (RFC 4013).

    Args:
        text: a user name or password.
        stored: whether it counts as a stored string, which what is unassigned in Unicode
            3.2 is forbidden in; otherwise it is a query string.

    Raises:
        LocalProtocolError: it holds what SASLprep forbids, or nothing is left.
    """
    if text.isascii() and text.isprintable() and text:
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in text if not stringprep.in_table_b1(char)
    )
    # RFC 3454 s.4 fixes Unicode 3.2: what is newer passes unchanged, as on the server.
    prepared = ucd_3_2_0.normalize("NFKC", mapped)
    prohibited = (*_PROHIBITED, stringprep.in_table_a1) if stored else _PROHIBITED
    if not prepared or any(check(char) for char in prepared for check in prohibited):
        raise LocalProtocolError("user name or password is empty or has a character that SASLprep forbids")
    _check_direction(prepared)
    return prepared


_PROHIBITED = (  # RFC 4013 s.2.3; C.1.2 has become a space above
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def _check_direction(text: str) -> None:
    """Refuse text that mixes directions (RFC 3454 s.6)."""
    if not any(map(stringprep.in_table_d1, text)):
        return
    ends_right_to_left = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    if any(map(stringprep.in_table_d2, text)) or not ends_right_to_left:
        raise LocalProtocolError("user name or password mixes directions in a way that SASLprep forbids")


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise AuthenticationExchangeError("SCRAM: challenge is not UTF-8", octets) from None


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise AuthenticationExchangeError("SCRAM: not base64", text.encode()) from None
