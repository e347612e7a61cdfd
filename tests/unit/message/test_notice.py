from __future__ import annotations

import email
import shlex
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailferry.events import (
    ClockJumped,
    LedgerFailed,
    LedgerRestored,
    MaildropAuthRejected,
    MaildropRecovered,
    MessageInDoubt,
    MessageQuarantined,
    MessageRejected,
    PollFailed,
    QuarantineFailed,
    RoutePaused,
    RouteResumed,
    UidlsChanged,
)
from mailferry.message import notice_items as words
from mailferry.message.notice import ITEMS_SHOWN, NoticeEnvelope, compose_notice, headline_of
from mailferry.message.notice_items import Matter, NoticeItem
from mailferry.message.summary import summarise

NOW = 1_700_000_000.0
ENVELOPE = NoticeEnvelope("relay.example.org", "operator@example.org")


def about(**changes: Any) -> dict[str, Any]:
    fields = {"maildrop": "alice", "poll_id": "p", "uidl": "u1", "size_octets": 1234}
    fields |= {"sender": "Ann <ann@example.net>", "recipient": "alice@example.org", "subject": "Hello"}
    return fields | changes


def rejected(**changes: Any) -> MessageRejected:
    return MessageRejected(**about(**changes), destination="office", attempt=1, reason="550 5.7.1 no")


REFUSED = words.refused(rejected(), NOW)
EVERY_KIND = [
    REFUSED,
    words.quarantined(MessageQuarantined(**about(), entry="20240101-a", reason="550 no"), NOW),
    words.in_doubt(MessageInDoubt(**about(), destination="office", attempt=1, reason="lost"), NOW),
    words.quarantine_failed(QuarantineFailed("alice", "p", "u1", "disk full"), NOW),
    words.login_refused(MaildropAuthRejected("alice", "-ERR no", 3), NOW),
    words.not_polled(PollFailed("alice", "p", "timeout", "silence", 9, NOW + 60), NOW, NOW - 7200),
    words.route_paused(RoutePaused("office", "421 no", 4, NOW + 60), NOW, NOW - 600),
    words.ledger_restored(LedgerRestored("garbled", NOW - 60, 7), NOW),
    words.ledger_failed(LedgerFailed("disk full"), NOW),
    words.clock_set(ClockJumped(-86_400.0), NOW),
    words.uidls_changed(UidlsChanged("alice", "p", 200, 3), NOW),
    words.recovered(MaildropRecovered("bob", 4), NOW),
    words.recovered(RouteResumed("vault", 4), NOW),
]


def compose(*items: NoticeItem, more: int = 0, envelope: NoticeEnvelope = ENVELOPE) -> bytes:
    return compose_notice(envelope, items, more, number=255, now=NOW)


def parsed(octets: bytes) -> EmailMessage:
    message = email.message_from_bytes(octets, policy=SMTP)
    assert isinstance(message, EmailMessage)
    return message


def text_of(octets: bytes) -> str:
    return str(parsed(octets).get_content()).replace("\r\n", "\n")


# -- the message -----------------------------------------------------------------------


def test_the_header_says_that_nobody_wrote_it_and_nobody_shall_answer() -> None:
    message = parsed(compose(REFUSED))
    assert message["From"] == "mailferry <mailferry@relay.example.org>"
    assert message["To"] == "operator@example.org"
    assert message["Subject"] == "[mailferry relay.example.org] 1 message was refused for good"
    assert message["Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert message["Message-ID"] == "<notice.ff@relay.example.org>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Precedence"] is None
    assert message.get_content_type() == "text/plain"
    assert not message.defects


@pytest.mark.parametrize("item", EVERY_KIND, ids=lambda item: item.matter.name)
def test_every_kind_has_a_headline_a_title_and_what_it_is_about(item: NoticeItem) -> None:
    text = text_of(compose(item))
    headline = headline_of([item])
    assert text.startswith(headline[0].upper() + headline[1:] + ".\nTold by mailferry on relay.example.org, ")
    for name, value in item.facts:
        assert f"   {name}:" in text
        assert value in text
    for line in item.advice:
        assert line in text
    assert "1. " in text


def test_all_matters_are_in_words() -> None:
    assert {item.matter for item in EVERY_KIND} == set(Matter)


def test_an_item_tells_when_where_who_what_why_and_what_to_do() -> None:
    assert text_of(compose(REFUSED)) == (
        "1 message was refused for good.\n"
        "Told by mailferry on relay.example.org, 2023-11-14 22:13:20 UTC.\n"
        "\n"
        "1. Refused for good\n"
        "   When:        2023-11-14 22:13:20 UTC\n"
        "   Maildrop:    alice\n"
        "   From:        Ann <ann@example.net>\n"
        "   To:          alice@example.org\n"
        "   Subject:     Hello\n"
        "   Size:        1234 octets\n"
        "   UIDL:        u1\n"
        "   Destination: office\n"
        "   Reason:      550 5.7.1 no\n"
        "   It stays on its server. Once the cause is mended, to try again:\n"
        "     mailferry retry --maildrop alice --uidl=u1\n"
    )


def test_the_most_important_comes_first_and_the_headline_stays_short() -> None:
    items = [*EVERY_KIND, REFUSED]
    assert headline_of(items) == (
        "the ledger cannot be written, the ledger was restored from its copy, "
        "1 message could not be put into the quarantine, and more"
    )
    text = text_of(compose(*items))
    titles = [line.partition(". ")[2] for line in text.splitlines() if line[:1].isdigit() and ". " in line]
    assert titles[0] == "The ledger cannot be written"
    assert titles[-1] == "Well again"
    assert (
        headline_of([REFUSED] * 3 + EVERY_KIND[2:3])
        == "3 messages were refused for good, 1 message may arrive twice"
    )


def test_many_items_are_counted_and_the_newest_are_shown() -> None:
    items = [words.refused(rejected(subject=f"number {n:04}"), NOW + n) for n in range(300)]
    text = text_of(compose(*items, more=1000))
    assert text.startswith("300 messages were refused for good.")
    assert text.count("Refused for good") == ITEMS_SHOWN
    assert "number 0299" in text
    assert "number 0249" not in text
    assert f"And {1000 + 300 - ITEMS_SHOWN} more; the log" in text


def test_what_happened_often_says_so() -> None:
    item = NoticeItem(Matter.LEDGER_FAILED, NOW, (("Error", "disk full"),), (), 7)
    assert "1. The ledger cannot be written, 7 times\n" in text_of(compose(item))


# -- what strangers wrote ----------------------------------------------------------------


def test_words_beyond_ascii_arrive_as_they_are() -> None:
    octets = compose(words.refused(rejected(sender="Jürgen Größe <j@example.net>", subject="Über 日本"), NOW))
    assert octets.isascii(), "a next hop without 8BITMIME takes it as it is"
    assert "Jürgen Größe <j@example.net>" in text_of(octets)
    assert "Über 日本" in text_of(octets)


NASTY = "x\r\nBcc: all@example.org\r\n\r\n.\r\nMAIL FROM:<>\x1b[2J\u202e\x00" + "y" * 5000


@pytest.mark.parametrize("field", ["sender", "recipient", "subject", "uidl"])
def test_nothing_that_a_stranger_wrote_adds_a_line_or_steers_a_terminal(field: str) -> None:
    octets = compose(words.refused(rejected(**{field: NASTY}), NOW))
    message, text = parsed(octets), text_of(octets)
    assert message["Bcc"] is None
    assert not {"\x1b", "\u202e", "\x00", "\r"} & set(text)
    assert not any(line.startswith(("Bcc", ".", "MAIL")) for line in text.splitlines())
    assert all(len(line) <= 998 for line in octets.split(b"\r\n"))
    assert max(map(len, text.splitlines())) < 400


@pytest.mark.parametrize(
    "uidl",
    ["$(reboot)", "`reboot`", ";reboot;", "'reboot", "a'b", "--all", "-x", "|reboot", "a b", '"', "\\"],
)
def test_a_command_is_safe_to_paste(uidl: str) -> None:
    *_, command = words.refused(rejected(uidl=uidl), NOW).advice
    assert shlex.split(command) == ["mailferry", "retry", "--maildrop", "alice", f"--uidl={uidl}"]


@pytest.mark.parametrize("uidl", ["x" * 65, "a\nb", "a\x1bb", "\u202e"])
def test_a_uidl_that_cannot_be_pasted_is_left_out(uidl: str) -> None:
    *_, command = words.refused(rejected(uidl=uidl), NOW).advice
    assert shlex.split(command) == ["mailferry", "retry", "--maildrop", "alice"]


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_any_text_makes_a_message_that_can_be_sent(sender: str, subject: str, reason: str) -> None:
    event = MessageRejected(
        **about(sender=sender, subject=subject), destination="office", attempt=1, reason=reason
    )
    octets = compose(words.refused(event, NOW))
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert octets.isascii()
    assert text_of(octets).count("\n") == 15 - (not words.readable(sender)) - (
        not words.readable(subject)
    ) - (not words.readable(reason))


# -- who writes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("relay.example.org", "relay.example.org"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:2001:db8::7]", "[IPv6:2001:db8::7]"),
        ("", "localhost"),
        ("...", "localhost"),
        ("a b\r\nBcc: x@example.org", "abBccxexample.org"),
    ],
)
def test_our_own_name_is_made_fit_for_an_address(host: str, domain: str) -> None:
    envelope = NoticeEnvelope(host, "operator@example.org")
    octets = compose(REFUSED, envelope=envelope)
    assert envelope.domain == domain
    assert b"Bcc: " not in octets
    assert f"<mailferry@{domain}>".encode() in octets


def test_an_operator_beyond_ascii_can_be_written_to() -> None:
    octets = compose(REFUSED, envelope=NoticeEnvelope("relay.example.org", "jürgen@example.org"))
    assert "To: jürgen@example.org\r\n".encode() in octets


def test_a_summary_of_ours_is_known_again() -> None:
    header = compose(*EVERY_KIND).partition(b"\r\n\r\n")[0] + b"\r\n"
    summary = summarise(header)
    assert ENVELOPE.is_own(summary.sender, summary.subject)
    assert not NoticeEnvelope("other.example.org", "o@example.org").is_own(summary.sender, summary.subject)
    assert not ENVELOPE.is_own(summary.sender, "Re: " + summary.subject)
    assert not ENVELOPE.is_own("Ann <ann@example.net>", summary.subject)
