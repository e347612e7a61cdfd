from __future__ import annotations

import time

import pytest

from mailferry.config.command import run_for_secret
from mailferry.errors import SecretError


def test_a_command_that_hangs_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(SecretError, match=r"no answer within 0\.05 seconds"):
        run_for_secret(["sleep", "30"], 100, timeout_seconds=0.05)
    assert time.monotonic() - began < 5


def test_a_child_that_keeps_the_pipe_open_does_not_hang_us() -> None:
    began = time.monotonic()
    with pytest.raises(SecretError, match="no answer"):
        run_for_secret(["sh", "-c", "sleep 30 & echo secret"], 100, timeout_seconds=0.2)
    assert time.monotonic() - began < 5


def test_a_command_that_closes_its_output_and_stays_is_ended() -> None:
    with pytest.raises(SecretError, match="no answer"):
        run_for_secret(["sh", "-c", "exec >&-; sleep 30"], 100, timeout_seconds=0.2)


def test_endless_output_is_cut() -> None:
    assert run_for_secret(["yes"], 1000) == b"y\n" * 500 + b"y"


def test_what_goes_to_stderr_is_thrown_away(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_for_secret(["sh", "-c", "echo loud >&2; echo quiet"], 100) == b"quiet\n"
    assert capfd.readouterr().err == ""


def test_a_command_that_vanished_is_an_error_of_ours() -> None:
    with pytest.raises(SecretError, match="cannot be run"):
        run_for_secret(["/nowhere/at/all"], 100)


def test_a_command_gets_no_input() -> None:
    assert run_for_secret(["cat"], 100) == b""
