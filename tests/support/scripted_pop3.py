"""The sandbox's POP3 server with a script of faults."""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Mapping

from mailferry.sandbox.maildrop import SandboxFeatures, SandboxMaildrop
from mailferry.sandbox.pop3_server import SandboxPop3Server
from mailferry.sandbox.pop3_session import SASL_RESPONSE, Pop3Session
from support.faults import GREETING, Fault, Faults, deliver

MAX_REMEMBERED_COMMANDS = 100_000
IDLE_TIMEOUT_SECONDS = 120.0


class ScriptedPop3Server(SandboxPop3Server):
    """A POP3 server that misbehaves on cue.

    Attributes:
        faults: the script.
        commands: every line that clients sent, verb in upper case, oldest first;
            lines of a SASL exchange come as `SASL-RESPONSE ...`.
    """

    def __init__(
        self,
        maildrops: Mapping[str, SandboxMaildrop],
        *faults: Fault,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        features: SandboxFeatures | None = None,
    ) -> None:
        super().__init__(
            maildrops,
            tls=tls,
            implicit_tls=implicit_tls,
            features=features,
            idle_timeout_seconds=IDLE_TIMEOUT_SECONDS,
        )
        self.faults = Faults(*faults)
        self.commands: deque[bytes] = deque(maxlen=MAX_REMEMBERED_COMMANDS)

    def make_session(self) -> Pop3Session:
        """Build a session that looks at the script before each reply."""
        return _ScriptedSession(self)


class _ScriptedSession(Pop3Session):
    def __init__(self, server: ScriptedPop3Server) -> None:
        super().__init__(server, idle_timeout_seconds=server.idle_timeout_seconds)
        self._server = server

    def greet(self) -> None:
        fault = self._server.faults.find(GREETING, b"")
        if fault is None:
            super().greet()
            return
        greeting = self.greeting_line() if fault.reply is None else fault.reply
        deliver(self, greeting, fault.delivery, lambda: None)

    def perform(self, verb: bytes, argument: bytes) -> None:
        self._server.commands.append(verb + b" " + argument if argument else verb)
        fault = self._server.faults.find(verb, argument)
        if fault is None:
            super().perform(verb, argument)
            return
        reply = self.execute(verb, argument) if fault.has_effect else self._not_done(verb)
        deliver(self, reply if fault.reply is None else fault.reply, fault.delivery, self.finish_command)

    def _not_done(self, verb: bytes) -> bytes:
        if verb == SASL_RESPONSE:
            self._continuation = None
        if verb == b"QUIT":
            self._after_reply = self.close
        return b"-ERR not done\r\n"
