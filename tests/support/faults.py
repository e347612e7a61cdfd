"""How a scripted server misbehaves: which command, what it says, and how the octets leave.

A `Fault` picks commands by verb, argument and turn. Its `reply` replaces what
the server would have said; its `delivery` is the way the reply travels. The two
are independent: a -ERR may be dripped, a correct reply cut in half.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from mailferry.sandbox.line_link import LineLink

GREETING = b"GREETING"
"""The verb of what a server says first."""
_ENDLESS_STEP_SECONDS = 0.005
_ENDLESS_BUFFER_OCTETS = 64 * 1024


@dataclass(frozen=True, slots=True)
class Send:
    """The reply as it is, and `extra` octets in the same write."""

    extra: bytes = b""


@dataclass(frozen=True, slots=True)
class Stall:
    """The first `after_octets` of the reply, then silence; the link stays open."""

    after_octets: int = 0


@dataclass(frozen=True, slots=True)
class Delay:
    """The reply, but later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Drip:
    """The reply in small steps: never silent for long, never done soon."""

    seconds_per_step: float = 1.0
    octets_per_step: int = 1


@dataclass(frozen=True, slots=True)
class Close:
    """The first octets of the reply (None: all), then an orderly close."""

    after_octets: int | None = 0


@dataclass(frozen=True, slots=True)
class Reset:
    """The first octets of the reply (None: all), then a TCP reset."""

    after_octets: int | None = 0


@dataclass(frozen=True, slots=True)
class Endless:
    """The reply, then `chunk` again and again for as long as the client reads."""

    chunk: bytes = b"x" * 1022 + b"\r\n"


@dataclass(frozen=True, slots=True)
class Halt:
    """The first octets of the reply (None: all), then `action`, and silence: here a test ends the client.

    The link that `action` gets stays held, and would not notice the client's end: the test drops it.
    """

    action: Callable[[LineLink], None]
    after_octets: int | None = 0


Delivery = Send | Stall | Delay | Drip | Close | Reset | Endless | Halt


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        verb: upper case; `GREETING` for the greeting; for SMTP `FINAL` for the end of a message's data.
        delivery: how the reply leaves.
        reply: what is said in place of the usual reply, line ends included.
        argument: only commands with this argument: equal to it, or an address path `<argument>`,
            or (for `FINAL`) found anywhere in the message.
        nth: only this one of the commands that match, counted from 1; 0 is every one.
        times: how many commands it strikes at most; 0 is no limit.
        effect: whether the command still does what it is for (QUIT deletes, `FINAL` accepts).
            None: yes, unless `reply` is a refusal.
    """

    verb: bytes
    delivery: Delivery = field(default_factory=Send)
    reply: bytes | None = None
    argument: bytes | None = None
    nth: int = 0
    times: int = 0
    effect: bool | None = None

    @property
    def has_effect(self) -> bool:
        """Whether the command takes effect."""
        if self.effect is not None:
            return self.effect
        return self.reply is None or self.reply[:1] in (b"+", b"2", b"3")


class Faults:
    """The script: faults may be added and removed while the server runs."""

    def __init__(self, *faults: Fault) -> None:
        self._seen: dict[Fault, int] = {}
        self._struck: dict[Fault, int] = {}
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Add a fault; the first that matches a command wins."""
        self._seen[fault] = 0
        self._struck[fault] = 0

    def clear(self) -> None:
        """From now on behave."""
        self._seen.clear()
        self._struck.clear()

    def struck(self, fault: Fault) -> int:
        """How often this fault has happened."""
        return self._struck.get(fault, 0)

    def find(self, verb: bytes, argument: bytes, *, inside: bool = False) -> Fault | None:
        """Return the fault that this command meets, and count."""
        found: Fault | None = None
        for fault in self._seen:
            if fault.verb != verb or not _argument_matches(fault, argument, inside=inside):
                continue
            self._seen[fault] += 1
            if found is None and self._is_due(fault):
                found = fault
        if found is not None:
            self._struck[found] += 1
        return found

    def _is_due(self, fault: Fault) -> bool:
        if fault.times and self._struck[fault] >= fault.times:
            return False
        return fault.nth in (0, self._seen[fault])


def _argument_matches(fault: Fault, argument: bytes, *, inside: bool) -> bool:
    if fault.argument is None:
        return True
    if inside:
        return fault.argument in argument
    return argument == fault.argument or b"<" + fault.argument + b">" in argument


def deliver(link: LineLink, reply: bytes, delivery: Delivery, then: Callable[[], None]) -> None:
    """Let a reply leave in the way that was asked for; `then` runs when the session may go on."""
    match delivery:
        case Send(extra):
            link.send(reply + extra)
            then()
        case Stall(after_octets):
            link.hold()
            link.send(reply[:after_octets])
        case Delay(seconds):
            _later(link, seconds, lambda: deliver(link, reply, Send(), then))
        case Drip(seconds, octets):
            _drip(link, reply, seconds, octets, then)
        case Close(after_octets):
            link.send(reply[:after_octets])
            link.close()
        case Reset(after_octets):
            link.send(reply[:after_octets])
            _reset(link)
        case Halt(action, after_octets):
            link.hold()
            link.send(reply[:after_octets])
            action(link)
        case Endless(chunk):
            link.send(reply)
            link.hold()
            _flood(link, chunk)


def _later(link: LineLink, seconds: float, action: Callable[[], None]) -> None:
    def go_on() -> None:
        if link.transport is not None:
            link.release()
            action()

    link.hold()
    asyncio.get_running_loop().call_later(seconds, go_on)


def _drip(link: LineLink, rest: bytes, seconds: float, octets: int, then: Callable[[], None]) -> None:
    link.send(rest[:octets])
    if len(rest) <= octets:
        then()
    else:
        _later(link, seconds, lambda: _drip(link, rest[octets:], seconds, octets, then))


def _flood(link: LineLink, chunk: bytes) -> None:
    if link.transport is None:
        return
    if link.transport.get_write_buffer_size() < _ENDLESS_BUFFER_OCTETS:
        link.send(chunk * max(1, _ENDLESS_BUFFER_OCTETS // len(chunk)))
    asyncio.get_running_loop().call_later(_ENDLESS_STEP_SECONDS, _flood, link, chunk)


def _reset(link: LineLink) -> None:
    if link.transport is None:
        return
    raw = link.transport.get_extra_info("socket")
    # A linger time of 0 makes close() send RST instead of FIN.
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.abort()
