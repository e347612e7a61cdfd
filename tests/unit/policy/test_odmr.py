"""What the answer to ATRN means, and which domains go into one command."""

from __future__ import annotations

import pytest

from mailferry.policy.etrn import ACCEPTED, NEEDS_PERSON, EtrnResult, backoff_after
from mailferry.policy.odmr import batches, judge_atrn, one_by_one
from mailferry.protocol.smtp_commands import COMMAND_LINE_OCTETS, Atrn
from mailferry.protocol.smtp_replies import SmtpReply, make_reply


def reply(line: str) -> SmtpReply:
    code, _, text = line.partition(" ")
    return make_reply(int(code), (text,))


def result(line: str, *, protected: bool = True, logged_in: bool = True) -> EtrnResult:
    return judge_atrn(reply(line), protected=protected, logged_in=logged_in).result


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("250 OK now reversing the connection", "started"),
        ("450 ATRN request refused", "unable"),
        ("451 Unable to process ATRN request now", "unable"),
        ("452 4.3.1 no room", "unable"),
        ("453 You have no mail", "nothing_waiting"),
        ("421 4.3.2 going down", "unavailable"),
        ("500 what", "not_offered"),
        ("501 5.5.4 syntax", "refused"),
        ("502 Command not implemented", "not_offered"),
        ("503 5.5.1 not now", "protocol_error"),
        ("504 5.5.4 not this", "refused"),
        ("530 5.7.0 Authentication required", "refused"),
        ("535 5.7.8 no", "refused"),
        ("550 5.7.1 not yours", "refused"),
        ("354 go on", "protocol_error"),
    ],
)
def test_every_code_has_a_meaning(line: str, word: str) -> None:
    assert result(line) == word


@pytest.mark.parametrize(
    ("line", "protected", "logged_in", "word"),
    [
        ("530 5.7.0 Authentication required", True, False, "needs_auth"),
        ("530 5.7.0 Authentication required", False, False, "needs_auth"),
        ("530 5.7.0 Must issue STARTTLS first", False, True, "needs_tls"),
        ("538 5.7.11 encryption needed", False, True, "needs_tls"),
        ("454 4.7.0 TLS is out of order", False, True, "needs_tls"),
    ],
)
def test_what_is_wanted_first_is_told_apart(line: str, protected: bool, logged_in: bool, word: str) -> None:
    assert result(line, protected=protected, logged_in=logged_in) == word


def test_no_mail_is_as_good_as_mail() -> None:
    assert {result("250 ok"), result("453 none")} == ACCEPTED


@pytest.mark.parametrize("line", ["502 no", "530 no", "535 no", "550 no"])
def test_what_only_a_person_can_mend_says_so_and_is_tried_slowly(line: str) -> None:
    answer = judge_atrn(reply(line), protected=True, logged_in=True)
    assert answer.result in NEEDS_PERSON
    assert answer.advice
    assert backoff_after(answer.result).pause_seconds(1, 0.5) >= 3600


def test_450_says_both_things_that_it_may_mean() -> None:
    answer = judge_atrn(reply("450 refused"), protected=True, logged_in=True)
    assert "access" in answer.advice
    assert "pauses" in answer.advice


@pytest.mark.parametrize(
    ("line", "alone"),
    [("450 no", True), ("550 no", True), ("501 no", True), ("451 no", False), ("530 no", False), ("535 no", False), ("453 none", False),
     ("502 no", False), ("250 ok", False), ("421 bye", False)],
)  # fmt: skip
def test_when_each_domain_is_asked_for_by_itself(line: str, alone: bool) -> None:
    said = reply(line)
    assert one_by_one(said, judge_atrn(said, protected=True, logged_in=True)) is alone


def test_batches_keep_number_and_order() -> None:
    domains = [f"d{number}.example.org" for number in range(7)]
    made = list(batches(domains, 3))
    assert [len(batch) for batch in made] == [3, 3, 1]
    assert [domain for batch in made for domain in batch] == domains
    assert list(batches([], 3)) == []


def test_batches_fit_a_command_line_to_the_last_octet() -> None:
    # "ATRN " and CRLF leave 505 octets: 5 domains of 100 with 4 commas are 504, of 101 too many.
    fits = ["a" * 100] * 4 + ["b" * 101]
    assert list(batches(fits, 100)) == [tuple(fits)]
    assert len(Atrn(tuple(fits)).encode()) == COMMAND_LINE_OCTETS
    longer = ["a" * 100] * 4 + ["b" * 102]
    assert list(batches(longer, 100)) == [tuple(longer[:4]), tuple(longer[4:])]
    assert list(batches(["c" * 600, "d"], 100)) == [("c" * 600,), ("d",)]
