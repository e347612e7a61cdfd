"""The policy, line by line: which words of a server blame whom, and for how long."""

from __future__ import annotations

import pytest

from mailferry.errors import (
    HeloRefusedError,
    HopAuthenticationError,
    HopError,
    HopGreetingRefusedError,
    HopLoginUnavailableError,
    RefusedReply,
    StartTlsRefusedError,
)
from mailferry.model import Deferred, Delivered, DeliveryReport, Outcome, PermanentFailure, Scope
from mailferry.policy.classify import HopStage, classify_transaction, hop_failure
from mailferry.protocol.smtp_replies import SmtpReply, make_reply
from mailferry.protocol.smtp_transaction import Transaction, TransactionFinished

OK = "250 2.0.0 ok"
HOP, MESSAGE, RECIPIENT = (Deferred, Scope.NEXT_HOP), (Deferred, Scope.MESSAGE), (Deferred, Scope.RECIPIENT)
REJECTED, NOBODY = (PermanentFailure, Scope.MESSAGE), (PermanentFailure, Scope.RECIPIENT)
Verdict = tuple[type[Deferred | PermanentFailure], Scope]


def reply(text: str | None) -> SmtpReply | None:
    return None if text is None else make_reply(int(text[:3]), (text[4:],))


def ended(
    mail: str | None = OK,
    rcpt: tuple[str | None, ...] = (OK,),
    data: str | None = None,
    *,
    sent: bool = False,
    doubt: bool = False,
    finals: tuple[str | None, ...] | None = None,
) -> TransactionFinished:
    names = tuple(f"r{number}@y.org" for number in range(1, len(rcpt) + 1))
    order = Transaction("tag", "a@x.org", names, (b"x\r\n",), 3)
    each = None if finals is None else tuple(map(reply, finals))
    return TransactionFinished(order, reply(mail), tuple(map(reply, rcpt)), reply(data), sent, doubt, each)


def stored(*finals: str | None, rcpt: tuple[str | None, ...] = ()) -> TransactionFinished:
    """LMTP: what was said of the content for each recipient; the last word is `data_reply`."""
    rcpts = rcpt or (OK,) * len(finals)
    doubt = any(
        final is None and (each or "").startswith("2") for each, final in zip(rcpts, finals, strict=True)
    )
    data = None if doubt else next((final for final in reversed(finals) if final), None)
    return ended(OK, rcpts, data, sent=True, doubt=doubt, finals=finals)


def verdict(outcome: Outcome) -> Verdict:
    assert not isinstance(outcome, Delivered)
    return type(outcome), outcome.scope


def judge(finished: TransactionFinished) -> Verdict:
    return verdict(classify_transaction(finished).outcome)


# -- acceptance ----------------------------------------------------------------


def test_delivered_with_the_receipt() -> None:
    report = classify_transaction(ended(data="250 2.0.0 Ok: queued as 4X", sent=True))

    assert report == DeliveryReport(Delivered("250 2.0.0 Ok: queued as 4X"), ("r1@y.org",))


def test_any_2yz_accepts() -> None:
    report = classify_transaction(ended("251 ok", ("252 ok", "251 ok"), "200 ok", sent=True))

    assert report == DeliveryReport(Delivered("200 ok"), ("r1@y.org", "r2@y.org"))


@pytest.mark.parametrize(
    "finished",
    [
        ended(data="250 ok"),  # without content
        ended("550 no", (OK,), "250 ok", sent=True),  # without a sender
        ended(OK, ("450 no",), "250 ok", sent=True),  # without recipients
        ended(None, (OK,), "250 ok", sent=True),
        ended(data="354 go", sent=True),
        ended(data="150 what", sent=True),
    ],
)
def test_a_yes_to_nothing_is_no_delivery(finished: TransactionFinished) -> None:
    report = classify_transaction(finished)

    assert not isinstance(report.outcome, Delivered)
    assert report.accepted_recipients == ()


# -- LMTP: a word on each recipient --------------------------------------------


def test_lmtp_is_delivered_when_every_recipient_has_it() -> None:
    report = classify_transaction(stored("250 2.0.0 <r1> A Saved", "250 2.0.0 <r2> B Saved"))

    receipt = "250 2.0.0 <r1> A Saved; 250 2.0.0 <r2> B Saved"
    assert report == DeliveryReport(Delivered(receipt), ("r1@y.org", "r2@y.org"))


@pytest.mark.parametrize(
    ("finals", "rcpt", "expected", "accepted", "refused"),
    [
        ((OK, "452 4.2.2 full"), (), RECIPIENT, (1,), ()),
        ((OK, "550 5.1.1 nobody"), (), NOBODY, (1,), (2,)),
        ((OK, None), (OK, "550 5.1.1 nobody"), NOBODY, (1,), (2,)),
        ((OK, None), (OK, "450 4.2.0 later"), RECIPIENT, (1,), ()),
        ((OK, "554 5.6.0 broken"), (), NOBODY, (1,), (2,)),
        ((OK, "552 5.2.3 too large for it"), (), NOBODY, (1,), (2,)),
        ((OK, "550 5.2.2 full"), (), RECIPIENT, (1,), ()),
        (("550 5.1.1 nobody", "452 4.2.2 full"), (), RECIPIENT, (), (1,)),
        (("550 5.7.1 sieve", "550 5.7.1 sieve"), (), NOBODY, (), (1, 2)),
        (("451 4.3.0 no", "421 4.3.2 going down"), (), HOP, (), ()),
        (("451 4.3.0 no", "530 5.7.0 log in first"), (), HOP, (), ()),
        ((OK, "421 4.3.2 going down"), (), RECIPIENT, (1,), ()),
        (("500 what", "501 what"), (), RECIPIENT, (), ()),
    ],
)
def test_lmtp_each_recipient_has_its_own_fate(
    finals: tuple[str | None, ...],
    rcpt: tuple[str | None, ...],
    expected: Verdict,
    accepted: tuple[int, ...],
    refused: tuple[int, ...],
) -> None:
    report = classify_transaction(stored(*finals, rcpt=rcpt))

    assert verdict(report.outcome) == expected
    assert report.accepted_recipients == tuple(f"r{number}@y.org" for number in accepted)
    assert report.refused_recipients == tuple(f"r{number}@y.org" for number in refused)


def test_lmtp_a_link_that_breaks_between_the_replies_leaves_the_others_in_doubt() -> None:
    report = classify_transaction(stored(OK, "452 4.2.2 full", None))

    assert isinstance(report.outcome, Deferred)
    assert report.outcome.in_doubt
    assert report.accepted_recipients == ("r1@y.org",)
    assert report.outcome.reason == "end of data for <r3@y.org>: no reply"


def test_lmtp_no_reply_at_all_leaves_the_message_in_doubt() -> None:
    report = classify_transaction(stored(None, None))

    assert isinstance(report.outcome, Deferred)
    assert report.outcome.in_doubt
    assert report.accepted_recipients == ()


def test_lmtp_what_blames_the_hop_after_the_content_counts_as_the_messages_attempt() -> None:
    outcome = classify_transaction(stored("421 4.3.2 going down")).outcome

    assert isinstance(outcome, Deferred)
    assert outcome.counts


@pytest.mark.parametrize(
    ("finished", "expected"),
    [
        (ended("550 no", (OK,), finals=(None,)), REJECTED),
        (ended(OK, ("550 5.1.1 nobody",), finals=(None,)), NOBODY),
        (ended(data="452 4.3.1 no disk", finals=(None,)), MESSAGE),
        (ended("550 no", (OK,), OK, sent=True, finals=(OK,)), REJECTED),  # a yes to nothing
    ],
)
def test_lmtp_before_the_content_is_as_smtp(finished: TransactionFinished, expected: Verdict) -> None:
    assert judge(finished) == expected


# -- the hop -------------------------------------------------------------------

HOP_REPLIES = [
    "421 4.3.2 shutting down", "421", "454 TLS not available", "454 4.7.1 relay access denied", "432 4.7.12 change it",
    "521 5.3.2 no mail here", "530 5.7.0 authenticate first", "534 5.7.9 too weak", "535 5.7.8 wrong", "535", "538 encrypt first",
    "550 5.7.30 basic authentication is off", "550 5.7.8 credentials", "554 5.7.9 mechanism", "535 4.0.0 digit rules",
]  # fmt: skip


@pytest.mark.parametrize("words", HOP_REPLIES)
@pytest.mark.parametrize("stage", ["mail", "rcpt", "last rcpt", "data", "final"])
def test_what_blames_the_hop_touches_no_message_at_any_stage(words: str, stage: str) -> None:
    finished = {
        "mail": ended(words, ("503 5.5.1 no MAIL",), "503 5.5.1 no MAIL"),
        "rcpt": ended(OK, (words, None)),
        "last rcpt": ended(OK, ("550 5.1.1 no such user", words)),
        "data": ended(data=words),
        "final": ended(data=words, sent=True),
    }[stage]

    report = classify_transaction(finished)

    assert verdict(report.outcome) == HOP
    assert report.accepted_recipients == report.refused_recipients == ()


def test_a_hop_reply_to_one_recipient_does_not_undo_the_delivery_to_another() -> None:
    report = classify_transaction(ended(OK, (OK, "454 4.7.1 relay access denied", "421"), OK, sent=True))

    assert verdict(report.outcome) == RECIPIENT
    assert report.accepted_recipients == ("r1@y.org",)


# -- the link ------------------------------------------------------------------


@pytest.mark.parametrize(
    "finished",
    [
        ended(None, (None, None)),
        ended(OK, (None, None)),
        ended(OK, (OK, None)),
        ended(OK, ("550 5.1.1 no", None)),
        ended(OK, (OK, "550 5.1.1 no")),
    ],
)
def test_a_link_lost_before_the_end_of_the_data_blames_the_hop(finished: TransactionFinished) -> None:
    assert judge(finished) == HOP


def test_in_doubt() -> None:
    outcome = classify_transaction(ended(OK, (OK, "550 5.1.1 no"), sent=True, doubt=True)).outcome

    assert isinstance(outcome, Deferred)
    assert outcome.scope is Scope.MESSAGE
    assert outcome.in_doubt


def test_nothing_else_is_in_doubt() -> None:
    for finished in (ended(None, (None,)), ended(data="451 later", sent=True), ended("421", (None,))):
        outcome = classify_transaction(finished).outcome
        assert isinstance(outcome, Deferred)
        assert not outcome.in_doubt


# -- MAIL ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("450 4.7.1 greylisted", MESSAGE),
        ("451 try again", MESSAGE),
        ("452 4.3.1 disk full", MESSAGE),
        ("452 5.3.4 digit rules", MESSAGE),
        ("552 too large", REJECTED),
        ("552 5.3.4 too large", REJECTED),
        ("554 5.3.4 too large", REJECTED),
        ("554 5.2.3 too large", REJECTED),
        ("552 5.2.2 full", MESSAGE),
        ("553 5.6.7 no SMTPUTF8", REJECTED),
        ("504 5.6.7 no SMTPUTF8", REJECTED),
        ("500 what", HOP),
        ("502 5.5.1 switched off", HOP),
        ("503 EHLO first", HOP),
        ("501 5.1.7 bad syntax", MESSAGE),
        ("504 parameter", MESSAGE),
        ("555 parameter", MESSAGE),
        ("550 5.7.1 you may not send as this sender", MESSAGE),
        ("553 5.7.1 sender not owned", MESSAGE),
        ("550 5.5.2 syntax", MESSAGE),
        ("550 5.3.0 trouble", MESSAGE),
        ("550 5.4.1 routing", MESSAGE),
        ("550 5.1.8 no such domain", REJECTED),
        ("553 5.1.7 bad sender", REJECTED),
        ("550 no", REJECTED),
        ("550 4.1.8 digit rules", REJECTED),
        ("554 no", REJECTED),
        ("354 what", MESSAGE),
        ("199 what", MESSAGE),
        ("600 what", MESSAGE),
    ],
)
def test_mail(words: str, expected: Verdict) -> None:
    alone = classify_transaction(ended(words, (None, None)))
    grouped = classify_transaction(ended(words, ("503 no MAIL", "503 no MAIL"), "503 no MAIL"))

    assert verdict(alone.outcome) == expected
    assert grouped == alone
    assert alone.refused_recipients == ()


# -- RCPT ----------------------------------------------------------------------

REFUSED = ["550 no such user", "550 5.1.1 no such user", "551 5.1.6 moved", "553 5.1.3 syntax", "553 name", "550 5.2.1 disabled",
           "556 5.1.10 null MX", "550 4.1.1 digit rules"]  # fmt: skip
KEPT = ["450 4.2.1 busy", "450", "451 4.7.1 greylisted", "452 4.5.3 too many", "552 too many", "552 5.2.2 full", "550 5.2.2 full",
        "552 5.1.1 odd", "550 5.7.1 relaying denied", "554 5.7.1 relaying denied", "554 no", "501 5.1.3 syntax", "500", "502", "503 5.5.1",
        "504", "555", "550 5.4.1 access denied", "550 5.3.0", "550 5.0.0", "354 go", "199"]  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_recipients_refused_for_good(words: str) -> None:
    report = classify_transaction(ended(OK, (words, "550 5.1.1 nor this"), "554 no valid recipients"))

    assert verdict(report.outcome) == NOBODY
    assert report.refused_recipients == ("r1@y.org", "r2@y.org")
    assert report.accepted_recipients == ()


@pytest.mark.parametrize("words", KEPT)
def test_recipients_to_be_tried_again(words: str) -> None:
    report = classify_transaction(ended(OK, ("550 5.1.1 no", words)))

    assert verdict(report.outcome) == RECIPIENT
    assert report.refused_recipients == ("r1@y.org",)
    assert report.accepted_recipients == ()


@pytest.mark.parametrize(
    ("rcpt", "expected", "accepted", "refused"),
    [
        ((OK, "550 5.1.1 no"), NOBODY, ("r1@y.org",), ("r2@y.org",)),
        ((OK, "450 later"), RECIPIENT, ("r1@y.org",), ()),
        (("450 later", OK, "550 5.1.1 no"), RECIPIENT, ("r2@y.org",), ("r3@y.org",)),
    ],
)
def test_mixed_recipients(
    rcpt: tuple[str, ...], expected: Verdict, accepted: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    report = classify_transaction(ended(OK, rcpt, OK, sent=True))

    assert verdict(report.outcome) == expected
    assert report.accepted_recipients == accepted
    assert report.refused_recipients == refused


@pytest.mark.parametrize("final", ["451 later", "554 5.7.1 spam"])
def test_after_a_negative_end_nobody_accepted(final: str) -> None:
    report = classify_transaction(ended(OK, (OK, "550 5.1.1 no"), final, sent=True))

    assert report.accepted_recipients == report.refused_recipients == ()


# -- DATA and the end of the data ------------------------------------------------


@pytest.mark.parametrize(
    ("words", "before", "after"),
    [
        ("451 4.3.0 later", MESSAGE, MESSAGE),
        ("452 full", MESSAGE, MESSAGE),
        ("450 4.7.1 greylisted", MESSAGE, MESSAGE),
        ("451 5.7.1 digit rules", MESSAGE, MESSAGE),
        ("552 too large", REJECTED, REJECTED),
        ("554 5.3.4 too large", REJECTED, REJECTED),
        ("554 5.2.3 too large", REJECTED, REJECTED),
        ("554 5.6.0 form", REJECTED, REJECTED),
        ("550 5.7.1 spam", REJECTED, REJECTED),
        ("571 5.7.1 spam", REJECTED, REJECTED),
        ("550 no", MESSAGE, REJECTED),
        ("554 transaction failed", MESSAGE, REJECTED),
        ("554 5.0.0 failed", MESSAGE, REJECTED),
        ("550 4.0.0 digit rules", MESSAGE, REJECTED),
        ("554 5.4.6 loop", MESSAGE, REJECTED),
        ("554 5.4.4 no route", MESSAGE, MESSAGE),
        ("554 5.3.0 trouble", MESSAGE, MESSAGE),
        ("554 5.5.1 protocol", MESSAGE, MESSAGE),
        ("552 5.2.2 full", MESSAGE, MESSAGE),
        ("550 5.2.2 full", MESSAGE, MESSAGE),
        ("500 what", MESSAGE, MESSAGE),
        ("501", MESSAGE, MESSAGE),
        ("502", MESSAGE, MESSAGE),
        ("503 5.5.1 RCPT first", MESSAGE, MESSAGE),
        ("504", MESSAGE, MESSAGE),
        ("551 what", MESSAGE, MESSAGE),
        ("599 what", MESSAGE, MESSAGE),
        ("199 what", MESSAGE, MESSAGE),
        ("354 what", MESSAGE, MESSAGE),
    ],
)
def test_data(words: str, before: Verdict, after: Verdict) -> None:
    assert judge(ended(data=words)) == before
    assert judge(ended(data=words, sent=True)) == after


def test_no_unknown_code_is_ever_permanent_except_where_it_must_be_meant() -> None:
    permanent_at = {
        "mail": {code for code in range(100, 700) if judge(ended(f"{code} x", (None,)))[0] is PermanentFailure},
        "rcpt": {code for code in range(100, 700) if code // 100 != 2 and judge(ended(OK, (f"{code} x",)))[0] is PermanentFailure},
        "data": {code for code in range(100, 700) if judge(ended(data=f"{code} x"))[0] is PermanentFailure},
    }  # fmt: skip
    final = {
        code
        for code in range(100, 700)
        if code // 100 != 2 and judge(ended(data=f"{code} x", sent=True))[0] is PermanentFailure
    }

    assert all(500 <= code < 600 for codes in permanent_at.values() for code in codes)
    assert permanent_at["rcpt"] == {550, 551, 553, 556}
    assert permanent_at["data"] == {552}
    assert final == {550, 552, 554}


def test_a_status_that_contradicts_its_reply_code_is_not_believed() -> None:
    """The parser drops such a status; who builds a reply by hand gets the same policy."""
    order = ended().transaction
    for code, status, expected in [
        (450, "5.7.8", MESSAGE),
        (450, "5.6.0", MESSAGE),
        (450, "5.3.4", MESSAGE),
        (554, "4.3.0", REJECTED),
    ]:
        said = SmtpReply(code, status, ("x",))
        assert judge(TransactionFinished(order, reply(OK), (reply(OK),), said, True, False)) == expected


# -- words ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("finished", "words"),
    [
        (ended("550 no", (None,)), "MAIL <a@x.org>: 550 no"),
        (ended(OK, ("550 5.1.1 no such user",)), "RCPT <r1@y.org>: 550 5.1.1 no such user"),
        (ended(data="452 full"), "DATA: 452 full"),
        (ended(data="452 full", sent=True), "end of data: 452 full"),
        (ended(OK, ("421 bye",)), "RCPT <r1@y.org>: 421 bye"),
        (ended(None, (None,)), "the connection ended before the reply to MAIL"),
        (ended(OK, (None,)), "the connection ended before the reply to RCPT"),
        (ended(), "the connection ended before the reply to DATA"),
    ],
)
def test_reasons_say_where_and_what(finished: TransactionFinished, words: str) -> None:
    outcome = classify_transaction(finished).outcome

    assert not isinstance(outcome, Delivered)
    assert outcome.reason == words


def test_reasons_name_a_few_recipients_only() -> None:
    outcome = classify_transaction(ended(OK, ("450 later",) * 1000)).outcome

    assert isinstance(outcome, Deferred)
    assert outcome.reason.count("RCPT") == 3
    assert outcome.reason.endswith("; and 997 more")


@pytest.mark.parametrize(
    ("stage", "words", "kind"),
    [
        ("auth", "535 5.7.8 wrong", HopAuthenticationError),
        ("auth", "535", HopAuthenticationError),
        ("auth", "534 5.7.9 weak", HopAuthenticationError),
        ("auth", "538", HopAuthenticationError),
        ("auth", "432", HopAuthenticationError),
        ("auth", "550 5.7.8 wrong", HopAuthenticationError),
        ("auth", "454 4.7.0 later", HopLoginUnavailableError),
        ("auth", "421", HopLoginUnavailableError),
        ("auth", "504 5.5.4 unknown mechanism", HopLoginUnavailableError),
        ("auth", "500 5.5.1 what?", HopLoginUnavailableError),
        ("auth", "554 5.7.1 no", HopAuthenticationError),
        ("auth", "535 5.7.30 basic authentication is off", HopAuthenticationError),
        ("auth", "550 5.7.30 basic authentication is off", HopAuthenticationError),
        ("auth", "451 4.7.12 another password first", HopAuthenticationError),
        ("auth", "450 4.7.0 later", HopLoginUnavailableError),
        ("ehlo", "535", HeloRefusedError),
        ("greeting", "554 go away", HopGreetingRefusedError),
        ("ehlo", "550 who", HeloRefusedError),
        ("starttls", "454 not now", StartTlsRefusedError),
    ],
)
def test_hop_failures(stage: HopStage, words: str, kind: type[HopError]) -> None:
    said = reply(words)
    assert said is not None

    error = hop_failure(stage, said)

    assert type(error) is kind
    verb = "" if stage == "greeting" else stage.upper()
    assert error.refused == RefusedReply(verb, said.code, said.enhanced_status, said.text)
    assert {"auth": "AUTH", "ehlo": "EHLO", "starttls": "STARTTLS"}.get(stage, stage) + ": " + words in str(
        error
    )
    assert "(" in str(error)  # what to do
