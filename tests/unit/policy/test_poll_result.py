from __future__ import annotations

import ssl

import pytest

from mailferry import errors
from mailferry.policy.backoff import AUTH_BACKOFF, MAILDROP_BACKOFF
from mailferry.policy.poll_result import PollResult, backoff_after, poll_result

FAILURES: list[tuple[Exception, PollResult]] = [
    (errors.AuthenticationRejectedError("x"), PollResult.AUTH_REJECTED),
    (errors.MaildropBusyError("x"), PollResult.BUSY),
    (errors.LoginDelayedError("x", 60), PollResult.LOGIN_DELAYED),
    (errors.MaildropUnavailableError("x"), PollResult.UNAVAILABLE),
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


@pytest.mark.parametrize("word", list(PollResult))
def test_only_a_refused_password_slows_down_hard(word: PollResult) -> None:
    expected = AUTH_BACKOFF if word is PollResult.AUTH_REJECTED else MAILDROP_BACKOFF
    assert backoff_after(word) is expected
