"""Which way to log in to a maildrop, and the exchange itself.

`auto` never sends a password in clear when the server offers a better way, and
never tries a second way after a refusal: that would count twice towards a lock-out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mailferry.errors import LoginUnavailableError, ProtocolError
from mailferry.net.credentials import Credentials, LoginMethod
from mailferry.net.pop3_dialogue import Pop3Dialogue
from mailferry.protocol.pop3 import Greeting, Reply
from mailferry.protocol.pop3_commands import Apop, Auth, AuthCancel, AuthResponse, Pass, Rpop, User
from mailferry.protocol.pop3_listings import Capabilities
from mailferry.protocol.sasl import OAuthBearer, apop_digest, fits_initial_response, proof_of_both
from mailferry.protocol.sasl_exchange import LinkFacts, Mechanism
from mailferry.protocol.scram import saslprep

_EXPLANATION_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a login ended.

    Attributes:
        reply: the server's last word.
        explanation: its reason as the SASL mechanism tells it, for people; empty without one.
    """

    reply: Reply
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class Login:
    """One attempt to log in.

    Attributes:
        method: as the configuration has it.
        greeting: of this session.
        capabilities: of this session, as the link is now; None if the server has none to tell.
        facts: what SASL mechanisms want to know.
        behind: sends what may follow at once, where the login may be sent as a group (RFC 2449
            s.6.6). With SASL the exchange comes first: the server may still ask something.
    """

    dialogue: Pop3Dialogue
    credentials: Credentials
    method: LoginMethod
    greeting: Greeting
    capabilities: Capabilities | None
    facts: LinkFacts
    behind: Callable[[], None] | None = None

    async def attempt(self) -> Verdict:
        """Log in once and return the server's verdict.

        Raises:
            SecretError: the password could not be read.
            LoginUnavailableError: the method needs what the server does not have.
            ProtocolError, TransportError: the session died.
        """
        method = self.chosen
        if method is LoginMethod.USER:
            return Verdict(await self._user_pass())
        if method is LoginMethod.APOP:
            return Verdict(await self._apop())
        if method is LoginMethod.RPOP:
            return Verdict(await self._rpop())
        return await self._sasl(method)

    @property
    def chosen(self) -> LoginMethod:
        """The way that will be used."""
        if self.method is not LoginMethod.AUTO:
            return self.method
        return choose_method(
            self.facts,
            protected=self.dialogue.link.protected,
            has_timestamp=self.greeting.apop_timestamp is not None,
            has_token=self.credentials.token is not None,
        )

    async def _user_pass(self) -> Reply:
        secret = await self.credentials.read_password()
        self._check_utf8(secret)
        user = User(self.credentials.username)
        if self.behind is not None:
            return await self._user_pass_together(user, Pass(secret), self.behind)
        reply = await self.dialogue.command(user)
        return await self.dialogue.command(Pass(secret)) if reply.ok else reply

    async def _user_pass_together(self, user: User, password: Pass, behind: Callable[[], None]) -> Reply:
        named, given = self.dialogue.request(user), self.dialogue.request(password)
        behind()
        reply = await self.dialogue.reply(named)
        return await self.dialogue.reply(given) if reply.ok else reply

    async def _apop(self) -> Reply:
        timestamp = self.greeting.apop_timestamp
        if timestamp is None:
            raise LoginUnavailableError(
                'the server\'s greeting has no timestamp, so auth = "apop" is not possible (RFC 1939 s.7)'
            )
        name, secret = self.credentials.username, await self.credentials.read_password()
        self._check_utf8(secret)
        if self._takes_utf8 and not (name + secret).isascii():
            # RFC 6856 s.2.2: with APOP it is the client's duty, since the server sees a digest only.
            name, secret = saslprep(name), saslprep(secret, stored=True)
        proven = self.dialogue.request(Apop(name, apop_digest(timestamp, secret)))
        if self.behind is not None:
            self.behind()
        return await self.dialogue.reply(proven)

    async def _rpop(self) -> Reply:
        # RFC 1081: the first name is the maildrop's, the second our user's; we have one for both.
        reply = await self.dialogue.command(User(self.credentials.username))
        return await self.dialogue.command(Rpop(self.credentials.username)) if reply.ok else reply

    @property
    def _takes_utf8(self) -> bool:
        return self.capabilities is not None and self.capabilities.utf8_user

    def _check_utf8(self, secret: str) -> None:
        """Keep UTF-8 from servers that do not take it in USER, PASS and APOP (RFC 6856 s.2.2).

        A server that has no such capability may take it all the same, in some charset: who
        names the method asks for that.
        """
        if self.method is not LoginMethod.AUTO or self._takes_utf8:
            return
        if not (self.credentials.username + secret).isascii():
            raise LoginUnavailableError(
                "user name or password is not ASCII, and the server takes UTF-8 neither by SASL nor by "
                'UTF8 USER (RFC 6856 s.2.2); auth = "user" sends it all the same'
            )

    async def _sasl(self, method: LoginMethod) -> Verdict:
        name = method.value.upper()
        offered = self.facts.offered
        if name.endswith("-PLUS") and offered and name not in offered:
            raise LoginUnavailableError(
                f"the server does not offer {name} on this link; if it did before, "
                "somebody may stand in between"
            )
        mechanism = await self.credentials.mechanism(name, self.facts)
        reply = await _exchange(self.dialogue, mechanism)
        return Verdict(reply, _readable(mechanism.failure))


def choose_method(facts: LinkFacts, *, protected: bool, has_timestamp: bool, has_token: bool) -> LoginMethod:
    """Choose for `auto`: proof before password; under TLS the password itself is safe."""
    offered = facts.offered
    if has_token:
        return LoginMethod.OAUTHBEARER if OAuthBearer.name in offered else LoginMethod.XOAUTH2
    proof = proof_of_both(facts)
    if proof is not None:
        return LoginMethod(proof.lower())
    if protected:
        return LoginMethod.PLAIN if "PLAIN" in offered else LoginMethod.USER
    if "CRAM-MD5" in offered:
        return LoginMethod.CRAM_MD5
    return LoginMethod.APOP if has_timestamp else LoginMethod.USER


async def _exchange(dialogue: Pop3Dialogue, mechanism: Mechanism) -> Reply:
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


def _readable(explanation: bytes) -> str:
    """Return a mechanism's explanation as one line for people."""
    text = explanation[:_EXPLANATION_CHARACTERS].decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in text)
