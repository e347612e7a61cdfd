"""Which way to log in to a maildrop, and the exchange itself.

`auto` never sends a password in clear when the server offers a better way, and
never tries a second way after a refusal: that would count twice towards a lock-out.
"""

from __future__ import annotations

from mailferry.errors import MaildropUnavailableError, ProtocolError
from mailferry.net.credentials import Credentials, LoginMethod
from mailferry.net.pop3_dialogue import Pop3Dialogue
from mailferry.protocol.pop3 import Greeting, Reply
from mailferry.protocol.pop3_commands import Apop, Auth, AuthCancel, AuthResponse, Pass, User
from mailferry.protocol.pop3_listings import Capabilities
from mailferry.protocol.sasl import apop_digest, fits_initial_response
from mailferry.protocol.sasl_exchange import Mechanism


def choose_method(
    offered: frozenset[str], *, protected: bool, has_timestamp: bool, has_token: bool
) -> LoginMethod:
    """Choose for `auto`: proof before password; under TLS the password itself is safe."""
    if has_token:
        return LoginMethod.XOAUTH2
    if "SCRAM-SHA-256" in offered:
        return LoginMethod.SCRAM_SHA_256
    if protected:
        return LoginMethod.PLAIN if "PLAIN" in offered else LoginMethod.USER
    if "CRAM-MD5" in offered:
        return LoginMethod.CRAM_MD5
    return LoginMethod.APOP if has_timestamp else LoginMethod.USER


async def attempt_login(
    dialogue: Pop3Dialogue,
    credentials: Credentials,
    method: LoginMethod,
    greeting: Greeting,
    capabilities: Capabilities | None,
) -> Reply:
    """Log in once and return the server's verdict.

    Raises:
        SecretError: the password could not be read.
        MaildropUnavailableError: the method needs what the server does not have.
        ProtocolError, TransportError: the session died.
    """
    if method is LoginMethod.AUTO:
        method = choose_method(
            capabilities.sasl_mechanisms if capabilities else frozenset(),
            protected=dialogue.link.protected,
            has_timestamp=greeting.apop_timestamp is not None,
            has_token=credentials.token is not None,
        )
    if method is LoginMethod.USER:
        return await _user_pass(dialogue, credentials)
    if method is LoginMethod.APOP:
        return await _apop(dialogue, credentials, greeting)
    return await _sasl(dialogue, await credentials.mechanism(method.value))


async def _user_pass(dialogue: Pop3Dialogue, credentials: Credentials) -> Reply:
    secret = await credentials.read_password()
    reply = await dialogue.command(User(credentials.username))
    return await dialogue.command(Pass(secret)) if reply.ok else reply


async def _apop(dialogue: Pop3Dialogue, credentials: Credentials, greeting: Greeting) -> Reply:
    if greeting.apop_timestamp is None:
        raise MaildropUnavailableError(
            'the server\'s greeting has no timestamp, so auth = "apop" is not possible (RFC 1939 s.7)'
        )
    digest = apop_digest(greeting.apop_timestamp, await credentials.read_password())
    return await dialogue.command(Apop(credentials.username, digest))


async def _sasl(dialogue: Pop3Dialogue, mechanism: Mechanism) -> Reply:
    initial = mechanism.initial()
    # RFC 5034 s.4: an initial response that makes the line too long must not be
    # sent with it but as the answer to an empty challenge.
    fits = initial is not None and fits_initial_response(f"AUTH {mechanism.name}", initial)
    answer = await dialogue.ask(Auth(mechanism.name, initial if fits else None))
    held_back = None if fits else initial
    while not isinstance(answer, Reply):
        if held_back is not None:
            response, held_back = held_back, None
        else:
            response = await _response(dialogue, mechanism, answer.challenge)
        answer = await dialogue.ask(AuthResponse(response))
    if answer.ok:
        mechanism.finish()
    return answer


async def _response(dialogue: Pop3Dialogue, mechanism: Mechanism, challenge: bytes) -> bytes:
    try:
        return mechanism.respond(challenge)
    except ProtocolError:
        await dialogue.ask(AuthCancel())
        raise
