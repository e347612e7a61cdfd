"""The server's side of POP3 logins: APOP, SASL PLAIN and CRAM-MD5.

Pure functions on octets. MD5 is what these mechanisms are made of
(RFC 1939 s.7, RFC 2195 s.2); nothing else here relies on it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac


class MalformedCredentialsError(ValueError):
    """What the client sent is not a response of this mechanism."""


def apop_digest_matches(timestamp: bytes, password: bytes, digest: bytes) -> bool:
    """Tell whether an APOP digest belongs to this greeting and password (RFC 1939 s.7)."""
    expected = hashlib.md5(timestamp + password, usedforsecurity=False).hexdigest()
    return hmac.compare_digest(expected.encode("ascii"), digest)


def cram_md5_matches(challenge: bytes, password: bytes, digest: bytes) -> bool:
    """Tell whether a CRAM-MD5 digest answers this challenge (RFC 2195 s.2)."""
    expected = hmac.new(password, challenge, hashlib.md5).hexdigest()
    return hmac.compare_digest(expected.encode("ascii"), digest)


def parse_plain(response: bytes) -> tuple[bytes, bytes]:
    """Return user name and password of a PLAIN response (RFC 4616 s.2).

    Raises:
        MalformedCredentialsError: it has not three parts.
    """
    parts = response.split(b"\0")
    if len(parts) != 3:
        raise MalformedCredentialsError("PLAIN needs authzid, authcid and password")
    return parts[1], parts[2]


def parse_cram_md5(response: bytes) -> tuple[bytes, bytes]:
    """Return user name and digest of a CRAM-MD5 response.

    Raises:
        MalformedCredentialsError: there is no space in it.
    """
    user, space, digest = response.rpartition(b" ")
    if not space:
        raise MalformedCredentialsError("CRAM-MD5 needs a user name and a digest")
    return user, digest


def decode_response(line: bytes) -> bytes:
    """Decode one base64 line of a SASL exchange (RFC 5034 s.4); `=` is the empty response.

    Raises:
        MalformedCredentialsError: it is not base64.
    """
    if line == b"=":
        return b""
    try:
        return base64.b64decode(line, validate=True)
    except binascii.Error as error:
        raise MalformedCredentialsError("not base64") from error
