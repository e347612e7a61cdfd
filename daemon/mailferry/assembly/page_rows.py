"""From what the daemon knows at one moment to the rows of the status page.

Pure, and in two steps: `Seen` judges and sorts everything, which takes a while with thousands of
maildrops and may be done in a thread; rows are made of the few that are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from types import MappingProxyType
from typing import Any, TypeVar

from mailferry.assembly.snapshot import BY_HAND, Life
from mailferry.assembly.standing import (
    Counts,
    DestinationStanding,
    EtrnStanding,
    MaildropStanding,
    Standing,
    overview,
)
from mailferry.config.models import MaildirDestinationSettings, MaildropSettings, Settings
from mailferry.config.units import format_duration, format_octets
from mailferry.web.page.model import (
    ROWS,
    Day,
    DestinationRow,
    EtrnRow,
    MaildropRow,
    Tone,
    Totals,
    Wanted,
)
from mailferry.wording import counted

_TONES: Mapping[str, Tone] = MappingProxyType(
    {
        "failing": Tone.BAD,
        "late": Tone.BAD,
        "paused": Tone.BAD,
        BY_HAND: Tone.WARN,
        "never polled": Tone.WARN,
        "never asked": Tone.WARN,
        "postponed": Tone.WARN,
        "probing": Tone.WARN,
        "ok": Tone.GOOD,
        "open": Tone.GOOD,
        "silent": Tone.QUIET,
        "untried": Tone.QUIET,
        "disabled": Tone.QUIET,
    }
)
_RANKS = {Tone.BAD: 0, Tone.WARN: 1, Tone.GOOD: 3, Tone.QUIET: 4}

S = TypeVar("S", bound=Standing)


@dataclass(frozen=True, slots=True)
class Judged:
    """Something that is configured, with its place in the order: trouble first."""

    rank: int
    standing: Standing
    target: str
    state: str
    tone: Tone


class Seen:
    """Everything at one moment, judged and sorted. Making it takes some 20 microseconds for each maildrop.

    Args:
        counts: the ledger's, None when it did not tell.
        quarantined: messages in the quarantine, None when it did not tell.
    """

    def __init__(
        self, settings: Settings, life: Life, counts: Counts | None, quarantined: int | None
    ) -> None:
        seen = overview(settings, life.standings, counts or {}, life.at, quarantined=quarantined)
        self.settings = settings
        self.life = life
        self.maildrops = _sorted(seen.maildrops, lambda each: f"maildrop.{each.name}", life)
        self.destinations = _sorted(seen.destinations, lambda each: f"destination.{each.name}", life)
        self.etrn = _sorted(seen.etrn, lambda each: f"etrn.{each.etrn}", life)
        self.totals = self._totals(seen.maildrops, quarantined, known=counts is not None)

    def _totals(
        self, maildrops: Sequence[MaildropStanding], quarantined: int | None, *, known: bool
    ) -> Totals:
        return Totals(
            maildrops=sum(each.state != "disabled" for each in maildrops),
            maildrops_ill=_ill(self.maildrops),
            destinations_ill=_ill(self.destinations),
            etrn_ill=_ill(self.etrn),
            paused_by_hand=sum(
                each.state == BY_HAND for each in (*self.maildrops, *self.destinations, *self.etrn)
            ),
            waiting=sum(each.waiting or 0 for each in self.life.maildrops.values()),
            deferred=sum(each.deferred for each in maildrops) if known else None,
            rejected=sum(each.rejected for each in maildrops) if known else None,
            quarantined=quarantined,
        )

    def choose(self, wanted: Wanted) -> tuple[list[Judged], int, int]:
        """Return one page of the maildrops that are wanted, how many those are, and which page it is."""
        text = wanted.text.casefold()
        fitting = [each for each in self.maildrops if _fits(each, text, ill_only=wanted.ill_only)]
        page = min(wanted.page, max(ceil(len(fitting) / ROWS), 1))
        return fitting[(page - 1) * ROWS : page * ROWS], len(fitting), page

    def find(self, name: str) -> Judged | None:
        """Return one maildrop."""
        return next((each for each in self.maildrops if each.standing.name == name), None)

    def verdict(self) -> tuple[str, Tone]:
        """Say in one sentence how all of it fares."""
        totals = self.totals
        troubles = [
            f"{totals.maildrops_ill} of {counted(totals.maildrops, 'maildrop')}"
            if totals.maildrops_ill
            else "",
            counted(totals.destinations_ill, "destination") if totals.destinations_ill else "",
            counted(totals.etrn_ill, "ETRN node") if totals.etrn_ill else "",
        ]
        named = [trouble for trouble in troubles if trouble]
        if not named:
            with_what = f" with {counted(totals.maildrops, 'maildrop')}" if totals.maildrops else ""
            return f"All is well{with_what}", Tone.GOOD
        every = (*self.maildrops, *self.destinations, *self.etrn)
        tone = Tone.BAD if any(each.tone is Tone.BAD for each in every) else Tone.WARN
        one = len(named) == 1 and named[0].startswith("1 ")
        return f"{' and '.join(named)} {'needs' if one else 'need'} a look", tone

    # -- rows

    def maildrop_row(self, each: Judged, day: Day) -> MaildropRow:
        """Return a maildrop's row."""
        standing = each.standing
        assert isinstance(standing, MaildropStanding)
        life = self.life.maildrops.get(standing.name)
        settings = self.settings.maildrop[standing.name]
        times = [at for at in (standing.last_success_at, standing.last_error_at) if at]
        return MaildropRow(
            **_common(each, self.life),
            where=f"{settings.host}:{settings.resolved_port}",
            last_poll_at=max(times, default=None),
            next_poll_at=life.next_poll_at if life is not None else None,
            polling=life is not None and life.polling,
            waiting=life.waiting if life is not None else None,
            deferred=standing.deferred,
            rejected=standing.rejected,
            skipped=standing.skipped,
            kept=standing.kept,
            day=day,
            details=_details(settings),
        )

    def destination_rows(self) -> list[DestinationRow]:
        """Return the destinations, trouble first, as many as are shown."""
        return [
            DestinationRow(
                **_common(each, self.life),
                kind=self.settings.destination[each.standing.name].type,
                where=self._where(each.standing.name),
            )
            for each in self.destinations[:ROWS]
            if isinstance(each.standing, DestinationStanding)
        ]

    def _where(self, name: str) -> str:
        settings = self.settings.destination[name]
        return str(settings.path) if isinstance(settings, MaildirDestinationSettings) else settings.where

    def etrn_rows(self) -> list[EtrnRow]:
        """Return the ETRN nodes, trouble first, as many as are shown."""
        return [
            EtrnRow(
                **_common(each, self.life),
                server=each.standing.etrn,
                node=each.standing.node,
                asking=each.standing.etrn in self.life.asking,
                last_attempt_at=each.standing.last_attempt_at,
                due_at=each.standing.due_at,
                last_reply=each.standing.last_reply,
            )
            for each in self.etrn[:ROWS]
            if isinstance(each.standing, EtrnStanding)
        ]


def _sorted(standings: Sequence[S], target_of: Callable[[S], str], life: Life) -> list[Judged]:
    judged = [_judge(each, target_of(each), life) for each in standings]
    judged.sort(key=lambda each: (each.rank, each.standing.name))
    return judged


def _judge(standing: Standing, target: str, life: Life) -> Judged:
    state = BY_HAND if target in life.held else standing.state
    tone = _TONES.get(state, Tone.QUIET)
    rank = _RANKS[tone]
    if tone is Tone.GOOD and isinstance(standing, MaildropStanding) and standing.rejected:
        rank -= 1  # well, and yet somebody may want to look
    return Judged(rank, standing, target, state, tone)


def _ill(judged: Sequence[Judged]) -> int:
    return sum(each.state == BY_HAND or not each.standing.well for each in judged)


def _fits(each: Judged, text: str, *, ill_only: bool) -> bool:
    if ill_only and each.tone not in {Tone.BAD, Tone.WARN}:
        return False
    standing = each.standing
    return not text or text in standing.name or text in each.state or text in standing.last_error.casefold()


def _common(each: Judged, life: Life) -> dict[str, Any]:  # Any: each field has a type of its own
    standing, held_until = each.standing, life.held.get(each.target)
    return {
        "target": each.target,
        "name": standing.name,
        "state": each.state,
        "tone": each.tone,
        "last_success_at": standing.last_success_at,
        "error": standing.last_error,
        "error_at": standing.last_error_at,
        "failures": standing.failures,
        "not_before": standing.not_before,
        "paused_by_hand": held_until is not None,
        "pause_ends_at": held_until or 0.0,
        "traced": each.target in life.traced,
    }


def _details(settings: MaildropSettings) -> list[tuple[str, str]]:
    keep = {True: "for ever", False: "no"}.get(settings.keep) if isinstance(settings.keep, bool) else None
    return [
        ("Server", f"{settings.host}:{settings.resolved_port}, tls {settings.tls}"),
        ("User name", settings.username),
        ("Polled", f"at {settings.cron}" if settings.cron else f"every {format_duration(settings.every)}"),
        ("Delivers to", ", ".join(settings.deliver)),
        ("Kept after delivery", keep or f"for {format_duration(float(settings.keep))}"),
        ("Largest message", format_octets(settings.max_size)),
    ]
