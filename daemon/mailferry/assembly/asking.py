"""A person's wish to have a server asked now, carried out by the daemon that runs.

With ETRN a command asks by itself. ODMR brings mail over the connection that asks, and that
is the daemon's business: it has the ledger's lock, the destinations, and the receiver.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from mailferry.errors import ControlError, UnknownTargetError
from mailferry.events import EtrnAnswered, EtrnUnanswered
from mailferry.policy.etrn import EtrnAnswer, EtrnResult
from mailferry.runtime.etrn_turns import EtrnTurns
from mailferry.services.context import Surroundings
from mailferry.services.etrn import AskedServer, EtrnServer, NodeOutcome
from mailferry.services.etrn_by_hand import HandReport, HandRequest, RoundFailure
from mailferry.services.odmr import OdmrServer

Document = dict[str, Any]
"""What JSON holds."""


class Asking:
    """Asks servers at a person's wish, one wish for each at a time."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._under_way: set[str] = set()

    async def ask(self, turns: EtrnTurns, nodes: Sequence[str], *, force: bool, insist: bool) -> Document:
        """Ask for these nodes, all when none is named; return what `report_of` reads.

        Raises:
            UnknownTargetError: a node is not in the configuration in force.
            ControlError: the server is being asked just now.
            StoreError: the ledger cannot be read or told.
        """
        configured = turns.policy.nodes
        unknown = [node for node in nodes if node not in configured]
        if unknown:
            raise UnknownTargetError(f"not among the nodes of etrn.{turns.name}: {', '.join(unknown)}")
        if turns.running or turns.name in self._under_way:
            raise ControlError(f"etrn.{turns.name} is being asked just now")
        self._under_way.add(turns.name)
        try:
            report = await self._ask(turns.asked, nodes or configured, force=force, insist=insist)
        finally:
            self._under_way.remove(turns.name)
        await turns.read_others_words()
        return _document(report)

    async def _ask(
        self, server: AskedServer, nodes: Sequence[str], *, force: bool, insist: bool
    ) -> HandReport:
        if insist and isinstance(server, EtrnServer | OdmrServer):
            server = replace(server, policy=replace(server.policy, insist=True))
        ledger = self._around.ledger
        standings = await ledger.standings()
        request = HandRequest(server, standings, self._around.clock, random.random, force=force)
        report = await request.run(list(dict.fromkeys(nodes)))
        for outcome in report.outcomes.values():
            self._tell(server.policy.name, outcome)
        await ledger.save(report.standings)  # the turns read it there
        return report

    def _tell(self, etrn: str, outcome: NodeOutcome) -> None:
        result = outcome.answer.result
        if outcome.answered:
            pending = outcome.answer.pending or 0
            self._around.emit(EtrnAnswered(etrn, outcome.node, result, outcome.reply, pending))
        else:
            self._around.emit(EtrnUnanswered(etrn, outcome.node, result))


def _document(report: HandReport) -> Document:
    failure = report.failure
    return {
        "outcomes": [asdict(outcome) for outcome in report.outcomes.values()],
        "too_soon": report.too_soon,
        "postponed": report.postponed,
        "failure": asdict(failure) if failure is not None else None,
    }


def report_of(document: Mapping[str, Any]) -> HandReport:
    """Read what `Asking.ask` has returned, after its way through JSON."""
    report = HandReport(too_soon=document["too_soon"], postponed=document["postponed"])
    for row in document["outcomes"]:
        answer = EtrnAnswer(**{**row["answer"], "result": EtrnResult(row["answer"]["result"])})
        report.outcomes[row["node"]] = NodeOutcome(**{**row, "answer": answer})
    failure = document["failure"]
    if failure is not None:
        report.failure = RoundFailure(EtrnResult(failure["result"]), failure["text"])
    return report
