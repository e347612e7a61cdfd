"""Trouble comes first, whatever its kind, and one sentence says how all of it fares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mailferry.assembly.page_rows import Seen
from mailferry.assembly.snapshot import Life, MaildropLife
from mailferry.assembly.standing import Counts
from mailferry.config import Settings, load_settings
from mailferry.model import MaildropName, MessageState, StandingKind, StandingRecord
from mailferry.web.page.model import ROWS, Day, Tone, Wanted
from support.configs import ConfigFolder

NOW = 1_000_000.0
NAMES = ("ann", "bob", "cyd", "dan", "eve")
NO_DAY = Day((0,) * 24, (0,) * 24, 0.0, 0.0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = ConfigFolder(tmp_path)
    tables: dict[str, Any] = {f"maildrop.{name}": folder.maildrop(1, name) for name in NAMES}
    tables["maildrop.eve"]["enabled"] = False
    tables["destination.hop"] = folder.smtp(1)
    tables["etrn.head"] = {"host": "127.0.0.1", "tls": "none", "nodes": ["a.example.org", "b.example.org"]}
    return load_settings(folder.write(tables), environ={})


def record(kind: StandingKind, name: str, **more: Any) -> StandingRecord:
    return StandingRecord(kind, name, **{"last_success_at": NOW - 10, "last_attempt_at": NOW - 10, **more})


def seen(
    settings: Settings, *failing: str, held: dict[str, float] | None = None, counts: Counts | None = None
) -> Seen:
    records = [record(StandingKind.MAILDROP, name) for name in NAMES]
    records += [record(StandingKind.DESTINATION, "hop")]
    records += [record(StandingKind.ETRN, f"head/{node}.example.org") for node in "ab"]
    broken = {
        "last_error": "timeout: no answer",
        "last_error_at": NOW,
        "consecutive_failures": 2,
        "not_before": NOW + 9,
    }
    records = [record(each.kind, each.name, **broken) if each.name in failing else each for each in records]
    lives = {name: MaildropLife(name == "bob", NOW + 60, 2) for name in NAMES}
    life = Life(
        at=NOW,
        standings={(each.kind, each.name): each for each in records},
        maildrops=lives,
        asking=frozenset(),
        held=held or {},
        traced=frozenset({"maildrop.cyd"}),
    )
    return Seen(settings, life, {} if counts is None else counts, 0)


def order(found: Seen, wanted: Wanted | None = None) -> list[str]:
    return [each.standing.name for each in found.choose(wanted or Wanted())[0]]


def test_trouble_comes_first_and_what_is_switched_off_last(settings: Settings) -> None:
    refused: Counts = {(MaildropName("cyd"), MessageState.REJECTED): 3}
    found = seen(settings, "dan", held={"maildrop.bob": 0.0}, counts=refused)
    assert order(found) == ["dan", "bob", "cyd", "ann", "eve"]
    assert order(found, Wanted(ill_only=True)) == ["dan", "bob"]
    assert order(found, Wanted(text="paused")) == ["bob"]
    assert order(found, Wanted(text="NO ANSWER")) == ["dan"]
    assert found.totals.rejected == 3
    assert (found.totals.maildrops, found.totals.maildrops_ill, found.totals.paused_by_hand) == (4, 2, 1)


@pytest.mark.parametrize(
    ("failing", "held", "words", "tone"),
    [
        ((), {}, "All is well with 4 maildrops", Tone.GOOD),
        (("ann",), {}, "1 of 4 maildrops needs a look", Tone.BAD),
        (("ann", "bob", "hop"), {}, "2 of 4 maildrops and 1 destination need a look", Tone.BAD),
        (("head/a.example.org",), {}, "1 ETRN node needs a look", Tone.BAD),
        ((), {"destination.hop": 0.0}, "1 destination needs a look", Tone.WARN),
        ((), {"etrn.head": NOW + 60}, "2 ETRN nodes need a look", Tone.WARN),
    ],
)
def test_the_verdict(
    settings: Settings, failing: tuple[str, ...], held: dict[str, float], words: str, tone: Tone
) -> None:
    assert seen(settings, *failing, held=held).verdict() == (words, tone)


def test_a_row_tells_what_the_daemon_knows(settings: Settings) -> None:
    found = seen(settings, "dan", held={"maildrop.ann": NOW + 30})
    judged = {each.standing.name: each for each in found.maildrops}
    dan = found.maildrop_row(judged["dan"], NO_DAY)
    assert (dan.state, dan.tone, dan.has_trouble, dan.failures) == ("failing", Tone.BAD, True, 2)
    assert (dan.last_poll_at, dan.next_poll_at, dan.waiting) == (NOW, NOW + 60, 2)
    assert ("Polled", "every 5m") in dan.details
    ann = found.maildrop_row(judged["ann"], NO_DAY)
    assert (ann.state, ann.paused_by_hand, ann.pause_ends_at) == ("paused by hand", True, NOW + 30)
    assert found.maildrop_row(judged["bob"], NO_DAY).polling
    assert found.maildrop_row(judged["cyd"], NO_DAY).traced
    assert [row.kind for row in found.destination_rows()] == ["smtp"]
    assert [(row.node, row.target) for row in found.etrn_rows()] == [
        ("a.example.org", "etrn.head"),
        ("b.example.org", "etrn.head"),
    ]


def test_pages_of_thousands(settings: Settings) -> None:
    many = {f"drop-{number:04}": settings.maildrop["ann"] for number in range(2 * ROWS + 1)}
    found = seen(settings.model_copy(update={"maildrop": many}))
    sizes = [
        (len(rows), total, page)
        for rows, total, page in (found.choose(Wanted(page=n)) for n in (1, 2, 3, 99))
    ]
    assert sizes == [(ROWS, 101, 1), (ROWS, 101, 2), (1, 101, 3), (1, 101, 3)]
    assert found.choose(Wanted(text="nobody", page=7)) == ([], 0, 1)


def test_what_the_ledger_does_not_tell_is_not_zero(settings: Settings) -> None:
    life = seen(settings).life
    totals = Seen(settings, life, None, None).totals
    assert (totals.deferred, totals.rejected, totals.quarantined) == (None, None, None)
