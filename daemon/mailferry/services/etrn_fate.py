"""How one node, or a server as a whole, has fared: what its standing says after each answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mailferry.model import StandingKind, StandingRecord
from mailferry.policy.etrn import SILENT, EtrnResult, Streak, is_silent, standing_name, standing_text
from mailferry.services.etrn import NodeOutcome


@dataclass(frozen=True, slots=True)
class Change:
    """What an answer changed.

    Attributes:
        ended_failures: how many failures in a row a success has ended.
        is_news: a failure of a kind that was not the last one told.
    """

    ended_failures: int = 0
    is_news: bool = False


class EtrnFate:
    """A standing, and what goes with it while the process lives.

    Attributes:
        told: the trouble that was last told as an event, until it is over.
    """

    def __init__(self, standing: StandingRecord) -> None:
        self.standing = standing
        self.streak = Streak(standing.last_error, standing.consecutive_failures)
        self.told: EtrnResult | None = None

    @classmethod
    def of(cls, stored: StandingRecord | None, etrn: str, node: str = "") -> EtrnFate:
        """Go on from what the ledger has, or begin; without a node it is the server's."""
        return cls(stored or StandingRecord(StandingKind.ETRN, standing_name(etrn, node)))

    def learn(self, outcome: NodeOutcome, *, now: float, chance: float, least_pause_seconds: float) -> Change:
        """Note what came of asking for this node; `chance` in [0, 1) spreads the pause."""
        reply = outcome.reply if outcome.answered else self.standing.last_reply
        self.standing = replace(self.standing, last_attempt_at=outcome.asked_at, last_reply=reply)
        if outcome.accepted:
            return Change(ended_failures=self.went_well(now, least_pause_seconds))
        result = outcome.answer.result
        pause = max(self.streak.next_seconds(result, chance), least_pause_seconds)
        return Change(is_news=self._failed(result, outcome.reply, now, pause))

    def failed(self, result: EtrnResult, said: str, *, now: float, chance: float) -> bool:
        """Note a failure; return whether it is news."""
        return self._failed(result, said, now, self.streak.next_seconds(result, chance))

    def _failed(self, result: EtrnResult, said: str, now: float, pause_seconds: float) -> bool:
        self.standing = replace(
            self.standing,
            last_error_at=now,
            last_error=standing_text(result, said),
            consecutive_failures=self.standing.consecutive_failures + 1,
            not_before=now + pause_seconds,
        )
        is_news, self.told = self.told is not result, result
        return is_news

    def went_well(self, now: float, pause_seconds: float = 0.0) -> int:
        """Note a success; return how many failures it ended."""
        failures = self.standing.consecutive_failures
        self.standing = replace(
            self.standing, last_success_at=now, consecutive_failures=0, not_before=now + pause_seconds
        )
        self.streak.reset()
        self.told = None
        return failures

    def adopt(self, standing: StandingRecord) -> int:
        """Go on from what another process has written; return how many failures that has ended."""
        before = self.standing.consecutive_failures
        self.standing = standing
        self.streak = Streak(standing.last_error, standing.consecutive_failures)
        if standing.consecutive_failures:
            return 0
        self.told = None
        return before

    def note_silence(self, silent: bool, now: float) -> bool:
        """Let a reader of the ledger see it; return whether anything changed.

        A failure's text stays: it is the graver trouble.
        """
        standing = self.standing
        if silent and not standing.consecutive_failures:
            text = f"{SILENT}: accepted, and no mail came since"
            self.standing = replace(standing, last_error_at=now, last_error=text)
        elif not silent and is_silent(standing.last_error):
            self.standing = replace(standing, last_error="")
        return self.standing is not standing
