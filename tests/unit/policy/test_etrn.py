"""What a reply to ETRN means, by every code that a server may say."""

from __future__ import annotations

import pytest

from mailferry import errors
from mailferry.policy.backoff import AUTH_BACKOFF
from mailferry.policy.etrn import (
    ACCEPTED,
    LISTENER_BACKOFF,
    LONGEST_PAUSE_SECONDS,
    NEEDS_PERSON,
    REFUSED_BACKOFF,
    SERVER_BACKOFF,
    UNABLE_BACKOFF,
    EtrnResult,
    Streak,
    backoff_after,
    failure_result,
    is_served,
    is_silent,
    judge,
    pending_messages,
    releases,
    result_of,
    standing_name,
    standing_text,
)
from mailferry.protocol.smtp_replies import make_reply


def result(line: str, *, protected: bool = True, logged_in: bool = True) -> EtrnResult:
    code, _, text = line.partition(" ")
    return judge(make_reply(int(code), (text,)), protected=protected, logged_in=logged_in).result


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # Words of RFC 1985 s.5.3, Postfix, Exim, Sendmail and hMailServer.
        ("250 OK, queuing for node x.org started", "started"),
        ("250 2.0.0 Queuing started", "started"),
        ("251 OK, no messages waiting for node x.org", "nothing_waiting"),
        ("252 OK, pending messages for node x.org started", "started"),
        ("253 OK, 14 pending messages for node x.org started", "started"),
        ("220 what", "started"),
        ("299 what", "started"),
        ("458 Unable to queue messages for node x.org", "unable"),
        ("458 4.0.0 Already processing x.org", "unable"),
        ("450 4.7.1 access denied for now", "unable"),
        ("451 4.3.0 try again", "unable"),
        ("499 what", "unable"),
        ("459 Node x.org not allowed: service unavailable", "refused"),
        ("459 4.5.4 Queue x unknown", "refused"),
        ("500 5.5.2 Parameter required", "not_offered"),
        ("501 5.5.4 Syntax: ETRN domain", "refused"),
        ('501 ETRN not supported for "x.org"', "refused"),
        ("502 5.7.0 Sorry, we do not allow this operation", "not_offered"),
        ("503 5.5.1 send EHLO first", "protocol_error"),
        ("504 parameter not implemented", "refused"),
        ("550 5.7.1 Administrative prohibition", "refused"),
        ("554 5.7.1 Client host rejected", "refused"),
        ("599 what", "refused"),
        ("421 4.3.2 shutting down", "unavailable"),
        ("554 Too many nonmail commands", "unavailable"),
        ("354 go on", "protocol_error"),
    ],
)
def test_what_a_reply_means(line: str, expected: str) -> None:
    assert result(line) == expected


@pytest.mark.parametrize(
    ("line", "protected", "logged_in", "expected"),
    [
        ("530 5.7.0 Must issue a STARTTLS command first", False, False, "needs_tls"),
        ("530 5.7.0 Must issue a STARTTLS command first", False, True, "needs_tls"),
        ("530 5.7.0 Authentication required", False, False, "needs_auth"),
        ("530 5.7.0 Authentication required", True, False, "needs_auth"),
        ("530 5.7.0 no", False, True, "needs_tls"),
        ("530 5.7.0 no", True, True, "refused"),
        ("538 5.7.11 Encryption required", False, False, "needs_tls"),
        ("538 5.7.11 Encryption required", True, False, "needs_auth"),
        ("538 5.7.11 Encryption required", True, True, "refused"),
        ("454 4.7.0 TLS not available", False, False, "needs_tls"),
        ("454 4.7.1 Relay access denied", True, False, "needs_auth"),
        ("454 4.7.0 Temporary authentication failure", True, True, "unable"),
    ],
)
def test_tls_and_login_that_are_missing_are_told_apart(
    line: str, protected: bool, logged_in: bool, expected: str
) -> None:
    assert result(line, protected=protected, logged_in=logged_in) == expected


def test_only_what_ends_a_session_ends_it() -> None:
    ends = [
        code
        for code in range(200, 600)
        if judge(make_reply(code, ("so",)), protected=True, logged_in=True).ends_session
    ]
    assert ends == [421]


def test_every_answer_that_needs_a_person_says_what_to_do() -> None:
    for code in range(200, 600):
        for protected in (False, True):
            answer = judge(make_reply(code, ("so",)), protected=protected, logged_in=protected)
            if answer.result in NEEDS_PERSON:
                assert answer.advice, code
            elif answer.result in ACCEPTED:
                assert not answer.advice, code


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("OK, 14 pending messages for node x.org started", 14),
        ("OK, 0 pending messages", 0),
        ("14", 14),
        ("Messages waiting: 7.", 7),
        ("OK, node 9.example.org: 3 pending", 3),
        ("OK, node 9.example.org has 3 waiting", 3),
        ("OK, node x-3.example.org started", None),
        ("OK, node 3-x.example.org started", None),
        ("for x.org", None),
        ("", None),
        ("9" * 10, None),
        ("999999999 pending", 999_999_999),
        ("\u0663 pending", None),  # an Arabic three is no digit of SMTP
    ],
)
def test_the_number_of_pending_messages(text: str, number: int | None) -> None:
    assert pending_messages(text) == number


def test_only_253_tells_a_number() -> None:
    assert judge(make_reply(253, ("5 pending",)), protected=True, logged_in=True).pending == 5
    assert judge(make_reply(250, ("5 pending",)), protected=True, logged_in=True).pending is None


@pytest.mark.parametrize(
    ("failure", "word"),
    [
        (errors.EtrnNotOfferedError("x"), "not_offered"),
        (errors.HopAuthenticationError("x"), "auth_rejected"),
        (errors.HopError("x"), "unavailable"),
        (errors.CleartextRefusedError("x"), "config_error"),
        (errors.SecretError("x"), "config_error"),
        (errors.LocalProtocolError("x"), "config_error"),
        (errors.ReadTimeoutError("x"), "timeout"),
        (errors.ConnectTimeoutError("x"), "timeout"),
        (errors.ConnectError("x"), "connect_failed"),
        (errors.TlsError("x"), "tls_failed"),
        (errors.ConnectionLostError("x"), "connection_lost"),
        (errors.TransportError("x"), "connection_lost"),
        (errors.RemoteProtocolError("x"), "protocol_error"),
        (OSError("x"), "connection_lost"),
        (ZeroDivisionError("x"), "internal_error"),
    ],
)
def test_every_failure_has_a_word(failure: Exception, word: str) -> None:
    assert failure_result(failure) == word


# -- pauses ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "backoff"),
    [
        (EtrnResult.UNABLE, UNABLE_BACKOFF),
        (EtrnResult.REFUSED, REFUSED_BACKOFF),
        (EtrnResult.NEEDS_TLS, REFUSED_BACKOFF),
        (EtrnResult.POSTPONED, LISTENER_BACKOFF),
        (EtrnResult.AUTH_REJECTED, AUTH_BACKOFF),
        (EtrnResult.CONNECT_FAILED, SERVER_BACKOFF),
        (EtrnResult.INTERNAL_ERROR, SERVER_BACKOFF),
    ],
)
def test_how_pauses_grow(word: EtrnResult, backoff: object) -> None:
    assert backoff_after(word) is backoff


def test_no_pause_is_longer_than_the_longest() -> None:
    assert max(backoff_after(word).longest_seconds for word in EtrnResult) == LONGEST_PAUSE_SECONDS


def test_pauses_grow_kind_by_kind_and_begin_anew_after_a_success() -> None:
    streak = Streak()
    assert [streak.next_seconds(EtrnResult.UNABLE, 0.5) for _ in range(3)] == [120, 240, 480]
    assert streak.next_seconds(EtrnResult.REFUSED, 0.5) == 3600  # the first of its kind
    assert streak.next_seconds(EtrnResult.UNABLE, 0.5) == 960
    streak.reset()
    assert streak.next_seconds(EtrnResult.UNABLE, 0.0) == 90


def test_a_streak_goes_on_after_a_restart() -> None:
    streak = Streak("unable: 458 no", 3)
    assert streak.next_seconds(EtrnResult.UNABLE, 0.5) == 960
    assert streak.next_seconds(EtrnResult.REFUSED, 0.5) == 3600


# -- what the ledger keeps -----------------------------------------------------------


def test_the_words_of_a_standing_come_back() -> None:
    for word in EtrnResult:
        assert result_of(standing_text(word, "a: b")) is word
    assert result_of("") is EtrnResult.INTERNAL_ERROR
    assert len(standing_text(EtrnResult.REFUSED, "x" * 5000)) == 1000


def test_one_node_at_two_servers_is_two_standings() -> None:
    assert standing_name("a", "x.org") == "a/x.org"
    assert standing_name("a") == "a"
    assert len({standing_name("a", "#b/c"), standing_name("a.b", "#c"), standing_name("a")}) == 3


def test_silence_is_no_result() -> None:
    assert is_silent("silent: nothing came")
    assert not is_silent("silently")
    assert not any(is_silent(standing_text(word, "x")) for word in EtrnResult)


# -- which mail a node stands for ---------------------------------------------------


@pytest.mark.parametrize(
    ("node", "domain", "does"),
    [
        ("x.org", "x.org", True),
        ("X.org", "x.ORG", True),
        ("x.org", "a.x.org", False),
        ("@x.org", "x.org", True),
        ("@x.org", "a.b.x.org", True),
        ("@x.org", "yx.org", False),
        ("#x.org", "x.org", False),
    ],
)
def test_which_mail_a_node_releases(node: str, domain: str, does: bool) -> None:
    assert releases(node, domain) is does


@pytest.mark.parametrize(
    ("node", "patterns", "served"),
    [
        ("x.org", ["x.org"], True),
        ("X.org", ["x.org"], True),
        ("a.x.org", ["x.org"], False),
        ("a.x.org", [".x.org"], True),
        ("x.org", [".x.org"], False),
        ("@x.org", [".x.org"], True),
        ("@x.org", ["x.org"], True),
        ("@a.x.org", [".x.org"], True),
        ("#x.org", ["x.org"], False),
        ("x.org", [], False),
    ],
)
def test_whose_mail_the_receiver_would_see(node: str, patterns: list[str], served: bool) -> None:
    assert is_served(node, patterns) is served
