from __future__ import annotations

import ssl

import pytest

from mailferry import errors
from mailferry.policy.poll_result import PollResult, backoff_after, poll_result

FAILURES: list[tuple[Exception, PollResult]] = [
    (errors.AuthenticationRejectedError("x"), PollResult.AUTH_REJECTED),
    (errors.MaildropBusyError("x"), PollResult.BUSY),
    (errors.LoginDelayedError("x", 60), PollResult.LOGIN_DELAYED),
    (errors.MaildropUnavailableError("x"), PollResult.UNAVAILABLE),
    (errors.MaildropFaultError("x"), PollResult.SERVER_FAULT),
    (errors.CleartextRefusedError("x"), PollResult.CONFIG_ERROR),
    (errors.SecretError("x"), PollResult.CONFIG_ERROR),
    (errors.LocalProtocolError("x"), PollResult.CONFIG_ERROR),
    (errors.RemoteProtocolError("x"), PollResult.PROTOCOL_ERROR),
    (errors.MessageTooLargeError("x"), PollResult.PROTOCOL_ERROR),
    (errors.ConnectError("x"), PollResult.CONNECT_FAILED),
    (errors.ConnectTimeoutError("x"), PollResult.TIMEOUT),
    (errors.ReadTimeoutError("x"), PollResult.TIMEOUT),
    (errors.TlsError("x"), PollResult.TLS_FAILED),
    (errors.ConnectionLostError("x"), PollResult.CONNECTION_LOST),
    (errors.TransportError("x"), PollResult.CONNECTION_LOST),
    (errors.StoreError("x"), PollResult.STORE_FAILED),
    (ConnectionResetError("x"), PollResult.CONNECTION_LOST),
    (ssl.SSLError("x"), PollResult.CONNECTION_LOST),
    (ValueError("x"), PollResult.INTERNAL_ERROR),
    (errors.MailferryError("x"), PollResult.INTERNAL_ERROR),
]


@pytest.mark.parametrize(("failure", "word"), FAILURES, ids=lambda value: type(value).__name__)
def test_each_failure_has_its_word(failure: Exception, word: PollResult) -> None:
    assert poll_result(failure) is word


def test_no_failure_is_ok() -> None:
    assert poll_result(None) is PollResult.OK


def test_every_word_but_stopped_can_come() -> None:
    assert {word for _, word in FAILURES} | {PollResult.OK, PollResult.STOPPED} == set(PollResult)


def pauses(word: PollResult) -> list[float]:
    return [backoff_after(word).pause_seconds(failures, 0.5) for failures in range(1, 20)]


@pytest.mark.parametrize("word", [PollResult.AUTH_REJECTED, PollResult.SERVER_FAULT])
def test_what_needs_a_person_is_tried_from_every_ten_minutes_to_every_six_hours(word: PollResult) -> None:
    assert pauses(word)[0] == 600
    assert pauses(word)[-1] == 6 * 3600


def test_a_busy_maildrop_is_tried_again_soon_however_long_it_is_busy() -> None:
    assert pauses(PollResult.BUSY)[0] == 30
    assert pauses(PollResult.BUSY)[-1] == 300


SLOW = {PollResult.AUTH_REJECTED, PollResult.SERVER_FAULT, PollResult.BUSY}


@pytest.mark.parametrize("word", [word for word in PollResult if word not in SLOW])
def test_everything_else_is_tried_again_within_half_an_hour(word: PollResult) -> None:
    assert pauses(word)[0] == 30
    assert pauses(word)[-1] == 1800


@pytest.mark.parametrize("word", list(PollResult))
def test_chance_spreads_every_pause(word: PollResult) -> None:
    backoff = backoff_after(word)
    assert backoff.pause_seconds(1, 0.0) < backoff.pause_seconds(1, 0.99)
