"""SASL exchanges with any server: what is no proof must not pass for one.

An input is the name of a mechanism and the server's challenges. `@N@` stands for
our nonce, `@V@` for the right signature, so that mutations get past the first step.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from fuzz.harness import SEPARATOR, Harness
from mailferry.errors import LocalProtocolError
from mailferry.protocol.sasl import (
    ScramSha1,
    ScramSha256,
    ScramSha256Plus,
    choose_mechanism,
    create_mechanism,
    require_protection,
)
from mailferry.protocol.sasl_exchange import AuthenticationExchangeError, ChannelBinding, LinkFacts
from mailferry.protocol.scram import MAX_ITERATIONS, MIN_ITERATIONS, Scram, saslprep

_NONCE = "fyko+d2lbbFgONRv9qkxdawL"
_PASSWORD = "pencil"
_DIGESTS: dict[type[Scram], str] = {ScramSha256: "sha256", ScramSha1: "sha1", ScramSha256Plus: "sha256"}
_BINDING = ChannelBinding("tls-unique", b"finished")
_MOST_ITERATIONS = MIN_ITERATIONS + 1000
"""More are refused before they are counted: they would only cost the fuzzer its time."""


def check(data: bytes) -> None:
    name, *challenges = data.split(SEPARATOR)[:8]
    for scram in _DIGESTS:
        _check_scram(scram, challenges)
    _check_other(name.decode("latin-1"), challenges)
    _check_choice(name.decode("latin-1"), challenges)
    _check_saslprep(data.decode("utf-8", "replace"))


def _check_scram(kind: type[Scram], challenges: list[bytes]) -> None:
    scram = kind("user", _PASSWORD, _NONCE, binding=_BINDING)
    said: list[bytes] = []
    told: list[bytes] = []
    for challenge in challenges:
        heard = challenge.replace(b"@N@", _NONCE.encode())
        if b"@V@" in heard and len(told) >= 1 and said:
            heard = heard.replace(b"@V@", base64.b64encode(_signature(kind, told[-1], said[-1])))
        if _is_costly(heard):
            return
        try:
            said.append(scram.respond(heard))
        except AuthenticationExchangeError:
            break
        told.append(heard)
    try:
        scram.finish()
    except AuthenticationExchangeError:
        return
    proofs = [heard for heard in told if heard.startswith(b"v=")]
    assert proofs, "accepted without a signature"
    first = told[told.index(proofs[0]) - 1]
    right = base64.b64encode(_signature(kind, first, said[told.index(first)]))
    given = proofs[0].removeprefix(b"v=").partition(b",")[0]
    assert base64.b64decode(given) == base64.b64decode(right)
    assert re.match(rb"r=" + re.escape(_NONCE.encode()) + rb"[^,]+,", first)


def _is_costly(challenge: bytes) -> bool:
    found = re.search(rb",i=([0-9]+)", challenge)
    return found is not None and _MOST_ITERATIONS < int(found[1][:12]) <= MAX_ITERATIONS


def _signature(kind: type[Scram], server_first: bytes, client_final: bytes) -> bytes:
    """What RFC 5802 s.3 says that the server must show."""
    found = re.search(rb"s=([^,]*),i=([0-9]{1,5})", server_first)
    if found is None:
        return b""
    digest = _DIGESTS[kind]
    try:
        salt = base64.b64decode(found[1], validate=True)
    except ValueError:
        return b""
    salted = hashlib.pbkdf2_hmac(digest, _PASSWORD.encode(), salt, max(int(found[2]), 1))
    without_proof = client_final.partition(b",p=")[0]
    message = b",".join([f"n=user,r={_NONCE}".encode(), server_first, without_proof])
    return hmac.digest(hmac.digest(salted, b"Server Key", digest), message, digest)


def _check_other(name: str, challenges: list[bytes]) -> None:
    try:
        mechanism = create_mechanism(name, "user", _PASSWORD, LinkFacts("h", 1, _BINDING))
        mechanism.initial()
        for challenge in challenges:
            if not _is_costly(challenge):
                assert isinstance(mechanism.respond(challenge), bytes)
        mechanism.finish()
    except (LocalProtocolError, AuthenticationExchangeError) as error:
        assert _PASSWORD not in str(error) or any(_PASSWORD.encode() in part for part in challenges)


def _check_choice(name: str, challenges: list[bytes]) -> None:
    """Whatever is offered, no bare secret goes over a bare link, and no offer of proof is passed over."""
    offered = frozenset([name, *(challenge.decode("latin-1") for challenge in challenges)])
    for binding in (None, _BINDING):
        facts = LinkFacts("mx.example.org", 587, binding, offered)
        for has_token in (False, True):
            chosen = choose_mechanism(facts, protected=False, has_token=has_token)
            if chosen is not None:
                assert chosen in offered
                require_protection(create_mechanism(chosen, "user", _PASSWORD, facts), protected=False)
            if not has_token and offered & {"SCRAM-SHA-256", "SCRAM-SHA-1"}:
                assert (chosen or "").startswith("SCRAM-")


def _check_saslprep(text: str) -> None:
    try:
        prepared = saslprep(text)
    except LocalProtocolError as error:
        assert not text or text not in str(error) or len(text) < 3
        return
    assert prepared
    assert "\0" not in prepared


_HARNESS = Harness(
    name="scram",
    check=check,
    tokens=(
        b"r=@N@x,s=QSXCR+Q6sek8bf92,i=4096", b"v=@V@", b"@N@", b"@V@", b"e=invalid-proof", b"m=x,", b",x=y", b",", b"=", b"i=4096", b"i=1",
        b"i=4294967296", b"s=", b"r=", b"v=", b"QQ==", b"SCRAM-SHA-256", b"SCRAM-SHA-1", b"CRAM-MD5", b"PLAIN", b"LOGIN", b"XOAUTH2", b"OAUTHBEARER", b"EXTERNAL", b"SCRAM-SHA-1-PLUS", b"{}",
        SEPARATOR, b"\xc2\xa0", b"\xc2\xad", b"\xd7\x90", b"\xe2\x80\x8e", b"\xff", b"\0", b"\xef\xac\x81",
    ),
    max_octets=600,
    modules=("protocol/sasl.py", "protocol/sasl_exchange.py", "protocol/sasl_oauth.py", "protocol/scram.py"),
)  # fmt: skip

HARNESSES = (_HARNESS,)
