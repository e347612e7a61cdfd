"""What is worth a word of a server that works."""

from __future__ import annotations

import pytest

from mailferry.policy.peer_notes import certificate_note, etrn_notes, pop3_notes, smtp_notes
from mailferry.protocol.pop3_listings import parse_capabilities
from mailferry.protocol.smtp_features import SmtpFeatures, parse_features
from mailferry.protocol.smtp_replies import make_reply

DAY = 86_400.0
ALL = b"TOP\r\nUIDL\r\nPIPELINING\r\n"
ALL_SMTP = ("hello", "PIPELINING", "8BITMIME")


def pop3(said: bytes, every: float | None = 300.0, keep: bool | float = False) -> list[str]:
    return list(pop3_notes(parse_capabilities(said), every, keep))


def smtp(*lines: str, largest: int | None = 1000) -> list[str]:
    return list(smtp_notes(parse_features(make_reply(250, lines)), largest))


@pytest.mark.parametrize("said", [ALL, ALL + b"LOGIN-DELAY 300\r\nEXPIRE NEVER\r\n", ALL + b"EXPIRE 30\r\n"])
def test_a_server_that_lacks_nothing_is_worth_no_word(said: bytes) -> None:
    assert pop3(said) == []


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (b"TOP\r\nPIPELINING\r\n", "no UIDL"),
        (b"UIDL\r\nPIPELINING\r\n", "no TOP"),
        (b"UIDL\r\nTOP\r\n", "no PIPELINING"),
        (ALL + b"LOGIN-DELAY 301\r\n", "LOGIN-DELAY 301"),
        (ALL + b"EXPIRE 0\r\n", "EXPIRE 0"),
    ],
)
def test_what_a_maildrops_server_lacks(said: bytes, word: str) -> None:
    (note,) = pop3(said)
    assert note.startswith(word)


def test_a_server_without_capa_gets_one_word() -> None:
    (note,) = pop3_notes(None, 300.0, False)
    assert note.startswith("no CAPA")


def test_a_timetable_has_no_interval_to_compare_with() -> None:
    assert pop3(ALL + b"LOGIN-DELAY 9999\r\n", every=None) == []


@pytest.mark.parametrize(
    ("keep", "told"), [(False, False), (True, True), (31 * DAY, True), (30 * DAY, False), (DAY, False)]
)
def test_what_the_server_deletes_earlier_than_wanted(keep: bool | float, told: bool) -> None:
    assert bool(pop3(ALL + b"EXPIRE 30\r\n", keep=keep)) is told


def test_a_next_hop_that_takes_less_than_may_come() -> None:
    assert smtp(*ALL_SMTP, "SIZE 999") == [
        "SIZE 999: larger messages are refused, and max_size lets 1000 through"
    ]
    assert smtp(*ALL_SMTP, "SIZE 1000") == []
    assert smtp(*ALL_SMTP, "SIZE 0") == []
    assert smtp(*ALL_SMTP, "SIZE 999", largest=None) == []


def test_what_a_next_hop_lacks() -> None:
    assert [note.partition(":")[0] for note in smtp("hello", "SIZE")] == ["no PIPELINING", "no 8BITMIME"]
    assert list(smtp_notes(SmtpFeatures(), None)) == ["no EHLO: none of SMTP's extensions"]


def test_what_keeps_a_server_from_being_asked() -> None:
    plain, both = (
        parse_features(make_reply(250, ["x"])),
        parse_features(make_reply(250, ["x", "ETRN", "ATRN"])),
    )
    assert list(etrn_notes(plain, odmr=False)) == ["ETRN is not offered"]
    assert "ATRN" in next(etrn_notes(plain, odmr=True))
    assert list(etrn_notes(both, odmr=True)) == list(etrn_notes(both, odmr=False)) == []


@pytest.mark.parametrize(
    ("days", "word"),
    [(None, ""), (21.1, ""), (20.9, "expires in 20 days"), (0.5, "in 0 days"), (-1.0, "has expired")],
)
def test_a_certificate_that_ends_soon(days: float | None, word: str) -> None:
    note = certificate_note(None if days is None else days * DAY)
    assert (word in note) if word else note == ""
