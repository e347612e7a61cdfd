from __future__ import annotations

import os
import time
from pathlib import Path

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


def test_the_children_of_a_command_end_with_it(tmp_path: Path) -> None:
    # Every process below holds the pipe's writing end: the read returns when the last of them is gone.
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    began = time.monotonic()
    try:
        with pytest.raises(SecretError, match="no answer"):
            run_for_secret(["sh", "-c", f"exec 3>{tmp_path}/pipe; sleep 7 & wait"], 100, timeout_seconds=0.3)
        os.set_blocking(reader, True)
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)
    assert time.monotonic() - began < 5
