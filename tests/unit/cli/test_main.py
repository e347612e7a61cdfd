from __future__ import annotations

import errno
from pathlib import Path

import pytest

import mailferry
from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.faults import report
from mailferry.errors import ConfigError, ConfigProblem, MailferryError, SecretError, StoreError
from mailferry.web.server import WebError

COMMANDS = (
    "run",
    "once",
    "check",
    "status",
    "history",
    "quarantine",
    "retry",
    "schema",
    "sandbox",
    "version",
)


@pytest.mark.parametrize("words", [("version",), ("--version",)])
def test_the_version_is_one_line(command, words) -> None:
    ended = command(*words)
    assert (ended.code, ended.out) == (0, f"mailferry {mailferry.__version__}\n")


@pytest.mark.parametrize("words", [("--help",), ("-h",)])
def test_help_names_every_command(command, words) -> None:
    ended = command(*words)
    assert ended.code == 0
    assert all(name in ended.out for name in COMMANDS)
    assert "bool" not in ended.out.lower()


def test_without_a_command_there_is_help_and_a_usage_error(command) -> None:
    ended = command()
    assert ended.code == ExitCode.USAGE
    assert all(name in ended.out + ended.err for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(command, name) -> None:
    ended = command(name, "--help")
    assert ended.code == 0
    assert f"Usage: mailferry {name}" in ended.out
    assert "--help" in ended.out
    assert "bool" not in ended.out.lower()


def test_an_unknown_command_is_a_usage_error(command) -> None:
    ended = command("ferry")
    assert ended.code == ExitCode.USAGE
    assert "ferry" in ended.err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (StoreError("/x: is full: free space"), ExitCode.STORE, "mailferry: /x: is full: free space"),
        (WebError("cannot serve HTTP"), ExitCode.UNAVAILABLE, "mailferry: cannot serve HTTP"),
        (SecretError("file /y: is empty"), ExitCode.CONFIG, "mailferry: file /y: is empty"),
        (MailferryError("no"), ExitCode.FAILED, "mailferry: no"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/z"),
            ExitCode.NO_PERMISSION,
            "mailferry: /z: Permission denied",
        ),
        (OSError(errno.ENOSPC, "No space left"), ExitCode.SYSTEM, "mailferry: No space left"),
        (
            ConfigError(
                [ConfigProblem("a.toml", "http", "is odd", 3), ConfigProblem("b.toml", "", "is not TOML")]
            ),
            ExitCode.CONFIG,
            "a.toml:3: http: is odd\nb.toml: is not TOML",
        ),
    ],
)
def test_errors_are_told_in_words_with_a_code(capsys, error, code, words) -> None:
    assert report(error) == code
    assert capsys.readouterr() == ("", words + "\n")


def failure_of(text: str) -> Exception:
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError(text)
    return caught.value


def test_a_fault_of_ours_is_one_line_that_quotes_nothing(capsys) -> None:
    assert report(failure_of("password=hunter2")) == ExitCode.SOFTWARE
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "RuntimeError in test_main.py" in said
    assert "MAILFERRY_DEBUG=1" in said
    assert "hunter2" not in said


def test_the_traceback_is_shown_on_request(capsys, monkeypatch) -> None:
    monkeypatch.setenv("MAILFERRY_DEBUG", "1")
    report(failure_of("this and that"))
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_debugging_is_not_taken_for_a_key_of_the_configuration(command, config: Path, monkeypatch) -> None:
    monkeypatch.setenv("MAILFERRY_DEBUG", "1")
    assert command("check", "-c", config).code == 0


def test_what_a_peer_said_cannot_steer_the_terminal(capsys) -> None:
    report(MailferryError("the server said \x1b[2J\r\nall is well"))
    assert capsys.readouterr().err == "mailferry: the server said \\x1b[2J\\x0d\\x0aall is well\n"


def test_what_a_peer_said_cannot_steer_the_terminal_in_a_traceback_either(capsys, monkeypatch) -> None:
    monkeypatch.setenv("MAILFERRY_DEBUG", "1")
    report(MailferryError("the server said \x1b[2J\u202e\x9b31m"))
    said = capsys.readouterr().err
    assert said.count("the server said \\x1b[2J\\u202e\\x9b31m") == 2
    assert not {"\x1b", "\u202e", "\x9b"} & set(said)


def test_the_configuration_is_found_by_its_variable(command, config: Path, monkeypatch) -> None:
    monkeypatch.setenv("MAILFERRY_CONFIG", str(config))
    assert command("check").code == 0
