"""The prompt of `mailferry probe`: one line, one command, until `quit`.

Lines are edited and remembered by readline for as long as the session lasts, and
written nowhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from mailferry.errors import LocalProtocolError
from mailferry.protocol import pop3_by_hand, smtp_by_hand
from mailferry.protocol.pop3_commands import Command as Pop3Command
from mailferry.protocol.pop3_commands import Dele
from mailferry.protocol.smtp_commands import Command as SmtpCommand

MOST_LISTED = 1000
"""Messages that one `messages` may ask for."""

_ENDS = frozenset({"quit", "exit"})
_ASKS_HELP = frozenset({"help", "?"})

_POP3_HELP = """\
STAT, LIST [n], UIDL [n], TOP n lines, RETR n, NOOP, RSET, CAPA, LANG [tag], DELE n (asks first),
and any other verb as it stands; put ... behind it when its answer has more than one line.
messages [N]   list the newest N messages with From, To and Subject
!LINE          send the line, also where its first word means something here (!help)
help, quit     quit sends RSET before QUIT, unless you deleted something; so does the end of input"""

_SMTP_HELP = """\
VRFY, EXPN, ETRN, NOOP, RSET, HELP (as !HELP), EHLO, MAIL and RCPT, and any other verb as it stands.
What carries a message (DATA, BDAT), STARTTLS and AUTH are not for hands.
!LINE          send the line, also where its first word means something here (!HELP)
help, quit     quit sends QUIT; so does the end of input"""

_POP3_WORDS = ("CAPA", "DELE", "LANG", "LIST", "NOOP", "RETR", "RSET", "STAT", "TOP", "UIDL", "messages")
_SMTP_WORDS = ("EHLO", "ETRN", "EXPN", "MAIL FROM:", "NOOP", "RCPT TO:", "RSET", "VRFY", "!HELP")
_OUR_WORDS = ("help", "quit")


class Prompt:
    """Asks for lines until the session or the input ends.

    Args:
        name: stands before the `>`.
        say: prints a line.
        alive: whether the session goes on.
    """

    def __init__(self, name: str, say: Callable[[str], None], alive: Callable[[], bool]) -> None:
        self._name = name
        self._say = say
        self._alive = alive

    first_words = "Type help for what may be typed, quit to end."
    help_text = ""
    words: tuple[str, ...] = ()

    def run(self) -> None:
        """Ask until it is over. Ctrl-C is the caller's."""
        _use_readline((*self.words, *_OUR_WORDS))
        self._say(self.first_words)
        while self._alive():
            try:
                line = input(f"{self._name}> ").strip()
            except EOFError:
                self._say("")
                return
            if line.lower() in _ENDS:
                return
            if line:
                self._take(line)

    def _take(self, line: str) -> None:
        if line.lower() in _ASKS_HELP:
            self._say(self.help_text)
            return
        try:
            self.act(line.removeprefix("!"), literal=line.startswith("!"))
        except LocalProtocolError as error:
            self._say(str(error))

    def act(self, line: str, *, literal: bool) -> None:
        """Do what a line asks for; `literal` sends it to the server in any case."""
        raise NotImplementedError


class Pop3Prompt(Prompt):
    """For POP3: DELE asks back, `messages` lists."""

    first_words = (
        "This session locks the maildrop: the daemon's polls are told so ([IN-USE]) until you quit.\n"
        + Prompt.first_words
    )
    help_text = _POP3_HELP
    words = _POP3_WORDS

    def __init__(
        self,
        say: Callable[[str], None],
        send: Callable[[Pop3Command], bool],
        list_messages: Callable[[int], None],
        alive: Callable[[], bool],
    ) -> None:
        super().__init__("pop3", say, alive)
        self._send = send
        self._list_messages = list_messages

    def act(self, line: str, *, literal: bool) -> None:
        """Send a command, or list messages."""
        words = line.split()
        if not literal and words[0].lower() == "messages":
            self._list_messages(_count(words[1:]))
            return
        command = pop3_by_hand.command_by_hand(line)
        if isinstance(command, Dele) and not _agrees(command):
            self._say("not sent")
        else:
            self._send(command)


class SmtpPrompt(Prompt):
    """For SMTP."""

    help_text = _SMTP_HELP
    words = _SMTP_WORDS

    def __init__(
        self, say: Callable[[str], None], send: Callable[[SmtpCommand], bool], alive: Callable[[], bool]
    ) -> None:
        super().__init__("smtp", say, alive)
        self._send = send

    def act(self, line: str, *, literal: bool) -> None:  # noqa: ARG002 - nothing here has a meaning of our own
        """Send a command."""
        self._send(smtp_by_hand.command_by_hand(line))


def _count(words: list[str]) -> int:
    if not words:
        return 10
    if len(words) > 1 or not words[0].isascii() or not words[0].isdecimal():
        raise LocalProtocolError("messages: a number follows it, or nothing")
    return min(int(words[0][:6]), MOST_LISTED)


def _agrees(command: Dele) -> bool:
    question = f"Message {command.message_number} is deleted for good when this session ends. Type yes: "
    try:
        return input(question).strip().lower() == "yes"
    except EOFError:
        return False


def _use_readline(words: Iterable[str]) -> None:
    """Let lines be edited, remembered and completed, where Python has readline."""
    with contextlib.suppress(ImportError):
        import readline

        known = sorted(words)

        def complete(text: str, state: int) -> str | None:
            fitting = [word for word in known if word.lower().startswith(text.lower())]
            return fitting[state] if state < len(fitting) else None

        readline.set_completer(complete)
        readline.set_completer_delims("")
        readline.parse_and_bind("tab: complete")
