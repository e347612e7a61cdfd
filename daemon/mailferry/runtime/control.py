"""What can be asked of the daemon while it runs: poll now, pause, resume, retry.

A target is named as in the configuration, `maildrop.alice`; `alice` alone is enough where
only one has that name. Everything here is for a person at work: it overrides pauses that
follow from failures, never a pause that another person has made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

from mailferry.errors import ControlError, UnknownTargetError
from mailferry.model import DestinationName, MaildropName, StandingKind
from mailferry.ports import Destination
from mailferry.runtime.etrn_turns import EtrnTurns
from mailferry.runtime.holds import Holds
from mailferry.runtime.turn import Turns
from mailferry.services.poll import PollReport
from mailferry.services.route import Route

KINDS = (StandingKind.MAILDROP, StandingKind.DESTINATION, StandingKind.ETRN)
_NAMED = 20
"""How many names an error tells; there may be thousands."""
_SHOWN_CHARACTERS = 100


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """Something in the configuration in force."""

    kind: StandingKind
    name: str

    def __str__(self) -> str:
        """Return its name in the configuration."""
        return f"{self.kind}.{self.name}"


PollState = Literal["ended", "under way", "cancelled", "paused", "stopping"]


@dataclass(frozen=True, slots=True)
class PollAnswer:
    """What became of one maildrop that was to be polled.

    Attributes:
        state: `ended` only for who waits; `paused` by hand, and `stopping` is the daemon.
        report: what the poll brought; None unless it has ended.
    """

    target: Target
    state: PollState
    report: PollReport | None = None


class Fleet(Protocol):
    """What the configuration in force has put to work; `runtime.fleet.Fleet` is the one."""

    @property
    def maildrops(self) -> Mapping[MaildropName, Turns]:
        """The maildrops that are polled."""

    @property
    def etrn(self) -> Mapping[str, EtrnTurns]:
        """The servers that are asked for mail."""

    @property
    def destinations(self) -> Mapping[DestinationName, Destination]:
        """The destinations that take mail."""


class Controls:
    """Does what is asked; every method may raise `ControlError`, and has done nothing then."""

    def __init__(self, fleet: Fleet, holds: Holds, stopping: Callable[[], bool]) -> None:
        self._fleet = fleet
        self._holds = holds
        self._stopping = stopping

    # -- names

    def targets(self, *kinds: StandingKind) -> list[Target]:
        """Return all that is in force, of some kinds or of all."""
        return [Target(kind, name) for kind in kinds or KINDS for name in self._names(kind)]

    def find(self, name: str, *kinds: StandingKind) -> Target:
        """Return what is meant by a name.

        Raises:
            UnknownTargetError: nothing is, or several are.
        """
        found = [target for target in self.targets(*kinds) if name in (target.name, str(target))]
        if not found:
            what = " or ".join(kinds) or "name"
            raise UnknownTargetError(f"no such {what} in force: {_shown(name)}; {self._known(kinds)}")
        if len(found) > 1:
            raise UnknownTargetError(f"{_shown(name)} may mean {' or '.join(map(str, found))}: say which")
        return found[0]

    def choose(self, names: Sequence[str] | None, *kinds: StandingKind) -> list[Target]:
        """Return what is meant by some names, each once; all of the kinds when there is no list."""
        if names is None:
            return self.targets(*kinds)
        return list(dict.fromkeys(self.find(name, *kinds) for name in names))

    # -- polls

    async def poll(self, names: Sequence[str] | None, *, wait_seconds: float = 0.0) -> list[PollAnswer]:
        """Poll maildrops now, all when there is no list; wait for their end as long as that.

        A poll that is under way is not begun again. What is paused by hand is left alone.
        """
        targets = self.choose(names, StandingKind.MAILDROP)
        tasks = {target: self._begin(target) for target in targets}
        running = [task for task in tasks.values() if task is not None]
        if running and wait_seconds > 0:
            await asyncio.wait(running, timeout=wait_seconds)
        return [self._answer(target, task) for target, task in tasks.items()]

    def _begin(self, target: Target) -> asyncio.Task[PollReport] | None:
        turns = self._fleet.maildrops.get(MaildropName(target.name))
        return None if turns is None or self.is_held(target) else turns.start_by_hand()

    def _answer(self, target: Target, task: asyncio.Task[PollReport] | None) -> PollAnswer:
        if task is None:
            return PollAnswer(target, "paused" if self.is_held(target) else "stopping")
        if not task.done():
            return PollAnswer(target, "under way")
        return (
            PollAnswer(target, "cancelled")
            if task.cancelled()
            else PollAnswer(target, "ended", task.result())
        )

    def hurry(self, maildrop: str | None) -> int:
        """Let messages that broke a session of a maildrop, or of any, be asked for at once; return how many."""
        maildrops = self._fleet.maildrops
        chosen = [maildrops[name] for name in maildrops if maildrop in (None, name)]
        return sum(turns.hurry() for turns in chosen)

    # -- pauses by hand

    @property
    def held(self) -> Mapping[str, float]:
        """What is paused by hand, as `maildrop.alice`, and until when; 0 for until somebody resumes it."""
        return self._holds.ends

    def is_held(self, target: Target) -> bool:
        """Tell whether a target is paused by hand."""
        return self._holds.is_held(str(target))

    def pause(self, names: Sequence[str] | None, seconds: float | None) -> list[Target]:
        """Pause targets for a time, or until somebody resumes them; all maildrops and ETRN servers without a list.

        A session under way finishes what it has in hand, and fetches nothing more.
        """
        everything = (StandingKind.MAILDROP, StandingKind.ETRN)
        targets = self.targets(*everything) if names is None else self.choose(names)
        self._refuse_at_the_end()
        for target in targets:
            self._holds.hold(str(target), seconds, partial(self._go_on, target))
            turns = self._fleet.maildrops.get(MaildropName(target.name))
            if target.kind is StandingKind.MAILDROP and turns is not None:
                turns.hold()
        return targets

    def resume(self, names: Sequence[str] | None) -> list[Target]:
        """End pauses by hand, all without a list; return those that were in force.

        For a destination the pause that follows from failures ends too: who resumes it has mended it.
        What a reload has removed meanwhile can still be resumed.
        """
        targets = self._held_targets() if names is None else [self._find_held(name) for name in names]
        resumed = []
        for target in dict.fromkeys(targets):
            if self._holds.release(str(target)):
                resumed.append(target)
            self._go_on(target)
        return resumed

    def _held_targets(self) -> list[Target]:
        parts = (text.partition(".") for text in self._holds.ends)
        return [Target(StandingKind(kind), name) for kind, _, name in parts]

    def _find_held(self, name: str) -> Target:
        gone = (target for target in self._held_targets() if name == str(target))
        return next(gone, None) or self.find(name)

    def _go_on(self, target: Target) -> None:
        """Begin what would have begun meanwhile."""
        if self._stopping():
            return
        match target.kind:
            case StandingKind.MAILDROP:
                if turns := self._fleet.maildrops.get(MaildropName(target.name)):
                    turns.start()
            case StandingKind.ETRN:
                if server := self._fleet.etrn.get(target.name):
                    server.resume()
            case StandingKind.DESTINATION:
                route = self._fleet.destinations.get(DestinationName(target.name))
                if isinstance(route, Route):
                    route.try_again()

    def _refuse_at_the_end(self) -> None:
        if self._stopping():
            raise ControlError("the daemon is stopping")

    # -- words

    def _names(self, kind: StandingKind) -> Iterable[str]:
        match kind:
            case StandingKind.MAILDROP:
                return self._fleet.maildrops
            case StandingKind.DESTINATION:
                return self._fleet.destinations
            case StandingKind.ETRN:
                return self._fleet.etrn
            case _:
                return ()

    def _known(self, kinds: Sequence[StandingKind]) -> str:
        known = self.targets(*kinds)
        names = [target.name if kinds else str(target) for target in known]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return f"known are: {', '.join(names[:_NAMED]) or 'none'}{more}"


def _shown(name: str) -> str:
    return name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}..."
