"""The server's side of SCRAM, as RFC 5802 s.3, s.5 and s.6 have it: written for tests, from the RFC alone."""

from __future__ import annotations

import base64
import hashlib
import hmac

from mailferry.protocol.sasl_exchange import ChannelBinding

ITERATIONS = 4096
SALT = b"salt of the server"


class ScramServer:
    """One exchange with whoever knows the password.

    Args:
        digest: "sha256" or "sha1".
        binding: of the link, as the server sees it.
        offers_plus: whether its list of mechanisms has a -PLUS form.
    """

    def __init__(
        self,
        digest: str,
        password: str,
        *,
        binding: ChannelBinding | None = None,
        offers_plus: bool = False,
    ) -> None:
        self.accepted = False
        self._digest = digest
        self._salted = hashlib.pbkdf2_hmac(digest, password.encode(), SALT, ITERATIONS)
        self._binding = binding
        self._offers_plus = offers_plus
        self._header = self._bare = self._server_first = b""

    def first(self, client_first: bytes) -> bytes:
        """Answer the client-first-message."""
        flag, authzid, self._bare = client_first.split(b",", 2)
        self._header = flag + b"," + authzid + b","
        if flag == b"y" and self._offers_plus:
            return b"e=server-does-support-channel-binding"
        if flag.startswith(b"p=") and (self._binding is None or flag[2:] != self._binding.kind.encode()):
            return b"e=unsupported-channel-binding-type"
        nonce = self._bare.partition(b",r=")[2].partition(b",")[0] + b"server"
        self._server_first = b"r=%s,s=%s,i=%d" % (nonce, base64.b64encode(SALT), ITERATIONS)
        return self._server_first

    def last(self, client_final: bytes) -> bytes:
        """Answer the client-final-message."""
        without_proof, _, proof = client_final.rpartition(b",p=")
        bound = base64.b64decode(without_proof.partition(b",")[0].removeprefix(b"c="))
        octets = self._binding.data if self._binding and self._header.startswith(b"p=") else b""
        if bound != self._header + octets:
            return b"e=channel-bindings-dont-match"
        message = b",".join((self._bare, self._server_first, without_proof))
        client_key = self._hmac(self._salted, b"Client Key")
        stored_key = hashlib.new(self._digest, client_key).digest()
        claimed = bytes(
            a ^ b for a, b in zip(base64.b64decode(proof), self._hmac(stored_key, message), strict=True)
        )
        if hashlib.new(self._digest, claimed).digest() != stored_key:
            return b"e=invalid-proof"
        self.accepted = True
        return b"v=" + base64.b64encode(self._hmac(self._hmac(self._salted, b"Server Key"), message))

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, self._digest)
