"""Prints what the fault tests measured, as a Markdown table. `make faults` runs it.

usage: python tests/faults/report.py FIGURES

FIGURES is the file that MAILFERRY_FAULT_FIGURES named while the tests ran. The exit
code is 1 when a figure is worse than it must be; what is only aimed at is shown.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Figures = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    Attributes:
        name: as the tests record it.
        shown: says what was measured.
        aim: says what it should be.
        well: tells whether what *must* be so is so.
    """

    name: str
    shown: Callable[[Figures], str]
    aim: str
    well: Callable[[Figures], bool]


def _none(*names: str) -> Callable[[Figures], bool]:
    return lambda figures: not any(figures[name] for name in names)


def _ratio(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "-"


ROWS: Final = (
    Row(
        "killed at every step",
        lambda f: (
            f"{f['kills']} kills: {f['lost']} lost, {f['altered']} altered, {f['doubled']} doubled, "
            "each accepted and its 250 not read"
        ),
        "none lost or altered; doubled only there",
        _none("lost", "altered"),
    ),
    Row(
        "kill -9 at random moments of a drain of 500 messages",
        lambda f: (
            f"{f['kills']} kills: {_ratio(f['doubled'], f['kills'])} doubled per kill, "
            f"{f['lost']} lost, {f['left']} left"
        ),
        "<= 0.06 per kill, none lost",
        lambda f: not (f["lost"] or f["left"]) and f["doubled"] <= f["kills"],
    ),
    Row(
        "network resets at random octets",
        lambda f: (
            f"{f['resets']} resets: {f['doubled']} doubled beyond the {f['in_doubt']} that the log names "
            f"(of those {f['in_doubt_doubled']} doubled), {f['lost']} lost, {f['left']} left"
        ),
        "0 doubled, nothing left",
        _none("doubled", "lost", "left"),
    ),
    Row(
        "accepted, 250 never seen",
        lambda f: (
            f"{f['accepted']} accepted and {f['refused']} not: {_ratio(f['doubled'], f['accepted'])} doubled "
            f"per acceptance, {f['unnamed']} of them not named in the log"
        ),
        "1, and named in the log",
        lambda f: f["doubled"] == f["accepted"] and not f["unnamed"],
    ),
    Row(
        "QUIT unanswered",
        lambda f: f"{f['cases']} cases: {f['left']} left, {f['doubled']} doubled, {f['lost']} lost",
        "0 and 0",
        _none("left", "doubled", "lost"),
    ),
    Row(
        "UIDLs renumbered, 200 kept",
        lambda f: f"{f['cases']} cases: {f['doubled']} doubled, {f['lost']} lost",
        "0",
        _none("doubled", "lost"),
    ),
    Row(
        "no UIDL at all, 140 kept",
        lambda f: f"{f['cases']} cases: {f['doubled']} doubled, {f['lost']} lost",
        "0",
        _none("doubled", "lost"),
    ),
    Row(
        "one refused or session-breaking message: others held up",
        lambda f: f"{f['cases']} cases: {f['held_up']} held up after the last poll, {f['lost']} lost",
        "0",
        _none("held_up", "lost"),
    ),
    Row(
        "one slow server beside 20 healthy maildrops: late messages",
        lambda f: f"{f['messages']} messages in {f['cases']} cases: {f['late']} late",
        "0",
        _none("late"),
    ),
    Row(
        "disk full in mid-drain",
        lambda f: (
            f"{f['fills']} fills: {f['doubled']} doubled, {f['lost']} lost, {f['missing']} missing at the end"
        ),
        "0 doubled (killed then: the one in flight)",
        _none("lost", "missing"),
    ),
    Row(
        "state file truncated, garbled, removed",
        lambda f: f"{f['damages']} damages: {f['doubled']} doubled, {f['stuck']} stuck",
        "0 and 0 where a good copy exists",
        _none("doubled", "stuck"),
    ),
    Row(
        "SIGTERM in mid-transfer",
        lambda f: f"{f['stops']} stops: {f['doubled']} doubled, {f['left']} left, {f['lost']} lost",
        "0 and 0",
        _none("doubled", "left", "lost"),
    ),
    Row(
        "endless RETR: peak memory",
        lambda f: f"{f['peak_growth_kib'] / 1024:.1f} MiB above a program with nothing to do, and it ends",
        "bounded by configuration, and ends",
        lambda f: f["peak_growth_kib"] < 16 * 1024,
    ),
    Row(
        "a message of 32 MiB: memory",
        lambda f: f"{f['peak_growth_kib'] / 1024:.1f} MiB above a program with nothing to do",
        "a few MiB",
        lambda f: f["peak_growth_kib"] < 16 * 1024,
    ),
    Row("altered bodies", lambda f: f"{f['altered']} of {f['messages']} crafted", "0", _none("altered")),
    Row(
        "smuggled second messages",
        lambda f: f"{f['smuggled']} in {f['messages']} crafted",
        "0",
        _none("smuggled"),
    ),
)


def read(path: Path) -> dict[str, Counter[str]]:
    """Sum up the figures of each row; `peak_` ones keep their maximum."""
    sums: dict[str, Counter[str]] = {}
    for line in path.read_text("utf-8").splitlines():
        entry = json.loads(line)
        row = sums.setdefault(entry.pop("row"), Counter())
        row["cases"] += 1
        for name, value in entry.items():
            row[name] = max(row[name], value) if name.startswith("peak_") else row[name] + value
    return sums


def table(sums: Mapping[str, Counter[str]]) -> str:
    """Return the table; rows that nobody measured say so."""
    lines = ["| fault | ours | must be |", "|---|---|---|"]
    for row in ROWS:
        figures = sums.get(row.name)
        shown = "not measured" if figures is None else row.shown(figures)
        mark = "" if figures is None or row.well(figures) else " **(worse than it must be)**"
        lines.append(f"| {row.name} | {shown}{mark} | {row.aim} |")
    known = {row.name for row in ROWS}
    for name, figures in sums.items():
        if name not in known:
            lines.append(f"| {name} | {', '.join(f'{k} {v}' for k, v in figures.items())} | |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Print the table; return the exit code."""
    sums = read(Path(arguments[0]))
    sys.stdout.write(table(sums) + "\n")
    return int(any(row.name in sums and not row.well(sums[row.name]) for row in ROWS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
