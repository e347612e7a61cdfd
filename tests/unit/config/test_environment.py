from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mailferry.config import Settings, load_settings, loading
from mailferry.errors import ConfigError, ConfigProblem

from .conftest import VALID

Load = Callable[..., Settings]
Problems = Callable[..., tuple[ConfigProblem, ...]]


def alone(directory: Path) -> dict[str, str]:
    """Variables that are a whole configuration."""
    return {
        "MAILFERRY_MAILDROP__ALICE__HOST": "pop.example.net",
        "MAILFERRY_MAILDROP__ALICE__USERNAME": "0123",
        "MAILFERRY_MAILDROP__ALICE__PASSWORD__FILE": str(directory / "secrets" / "alice"),
        "MAILFERRY_MAILDROP__ALICE__DELIVER": "office, vault",
        "MAILFERRY_DESTINATION__OFFICE__HOST": "smtp.example.org",
        "MAILFERRY_DESTINATION__OFFICE__RECIPIENTS": '["alice@example.org", "bob@example.org"]',
        "MAILFERRY_DESTINATION__VAULT__TYPE": "maildir",
        "MAILFERRY_DESTINATION__VAULT__PATH": "/srv/vault",
    }


@pytest.fixture
def no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "DEFAULT_PATH", tmp_path / "absent" / "mailferry.toml")


@pytest.mark.usefixtures("no_file")
def test_variables_alone_are_enough(directory: Path) -> None:
    settings = load_settings(environ=alone(directory))
    alice = settings.maildrop["alice"]
    assert alice.username == "0123"
    assert alice.deliver == ("office", "vault")
    assert settings.destination["office"].recipients == ("alice@example.org", "bob@example.org")  # type: ignore[union-attr]
    assert settings.destination["vault"].type == "maildir"


def test_a_file_that_was_named_must_exist_even_so(directory: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: does not exist"):
        load_settings(directory / "absent.toml", environ=alone(directory))
    with pytest.raises(ConfigError, match=r"absent\.toml: does not exist"):
        load_settings(environ=alone(directory) | {"MAILFERRY_CONFIG": str(directory / "absent.toml")})


@pytest.mark.usefixtures("no_file")
def test_the_processes_own_environment_is_the_default(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in alone(directory).items():
        monkeypatch.setenv(name, value)
    assert list(load_settings().maildrop) == ["alice"]


def test_variables_of_the_process_do_not_leak_in(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEMON", '{"trace": true}')
    monkeypatch.setenv("MAILFERRY_DAEMON__TRACE", "true")
    assert load(VALID, environ={}).daemon.trace is False
    assert Settings().daemon.trace is False


@pytest.mark.parametrize(
    ("variable", "value", "key", "expected"),
    [
        ("TRACE", "true", "trace", True),
        ("TRACE", "Off", "trace", False),
        ("MAX_SESSIONS", " 7 ", "max_sessions", 7),
        ("START_RATE", "0.5", "start_rate", 0.5),
        ("STOP_TIMEOUT", "90", "stop_timeout", 90.0),
        ("STOP_TIMEOUT", "2m", "stop_timeout", 120.0),
        ("MEMORY_BUDGET", "1073741824", "memory_budget", 1 << 30),
        ("LOG_LEVEL", "debug", "log_level", "debug"),
        ("STATE_DIR", "/srv/state", "state_dir", Path("/srv/state")),
    ],
)
def test_a_variable_wins_over_the_file(
    load: Load, variable: str, value: str, key: str, expected: object
) -> None:
    file = '[daemon]\ntrace = false\nmax_sessions = 3\nlog_level = "error"\nstate_dir = "/var/state"\n'
    settings = load(file + VALID, environ={f"MAILFERRY_DAEMON__{variable}": value})
    assert getattr(settings.daemon, key) == expected


@pytest.mark.parametrize(
    ("variable", "value", "key", "expected"),
    [
        ("KEEP", "true", "keep", True),
        ("KEEP", "false", "keep", False),
        ("KEEP", "14d", "keep", 14 * 86400.0),
        ("PORT", "1995", "port", 1995),
        ("PORT", "pop3", "port", "pop3"),
        ("CRON", "0 * * * *", "cron", "0 * * * *"),
        ("DELIVER", '["office"]', "deliver", ("office",)),
    ],
)
def test_a_variable_changes_one_key_of_a_maildrop(
    load: Load, variable: str, value: str, key: str, expected: object
) -> None:
    alice = load(VALID, environ={f"MAILFERRY_MAILDROP__ALICE__{variable}": value}).maildrop["alice"]
    assert getattr(alice, key) == expected
    assert alice.host == "pop.example.net"


def test_a_secret_is_replaced_as_a_whole(load: Load, directory: Path) -> None:
    environ = {"MAILFERRY_MAILDROP__ALICE__PASSWORD__ENV": "ALICE", "ALICE": "from a variable"}
    password = load(VALID, environ=environ).maildrop["alice"].password
    assert password is not None
    assert password.reveal() == "from a variable"
    as_json = f'{{"file": "{directory}/secrets/relay"}}'
    password = (
        load(VALID, environ={"MAILFERRY_MAILDROP__ALICE__PASSWORD": as_json}).maildrop["alice"].password
    )
    assert password is not None
    assert password.reveal() == "battery staple"


def test_a_schedule_in_a_variable_hides_that_of_the_file(load: Load) -> None:
    alice = load(VALID + 'every = "1h"\n', environ={"MAILFERRY_MAILDROP__ALICE__CRON": "0 * * * *"}).maildrop[
        "alice"
    ]
    assert (alice.every, alice.cron) == (300.0, "0 * * * *")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"MAILFERRY_FOO": "1"}, "MAILFERRY_FOO: foo: unknown table"),
        ({"MAILFERRY_DAEMON__LOG_LEVLE": "info"}, "MAILFERRY_DAEMON__LOG_LEVLE: daemon.log_levle: unknown key; did you"),
        ({"MAILFERRY_DAEMON": "x"}, "MAILFERRY_DAEMON: daemon: must be a table"),
        ({"MAILFERRY_": "x"}, "MAILFERRY_: must look like MAILFERRY_DAEMON__STATE_DIR"),
        ({"MAILFERRY_DAEMON____TRACE": "x"}, "MAILFERRY_DAEMON____TRACE: must look like"),
        ({"MAILFERRY_DAEMON__TRACE": "1", "MAILFERRY_daemon__trace": "1"}, "MAILFERRY_daemon__trace: sets what another"),
        ({"MAILFERRY_HTTP__LISTEN": "", "MAILFERRY_HTTP__LISTEN__X": ""}, "MAILFERRY_HTTP__LISTEN__X: sets what another"),
        ({"MAILFERRY_MAILDROP__ALICE__DELIVER": "[oops"}, "MAILFERRY_MAILDROP__ALICE__DELIVER: maildrop.alice.deliver: must be a JSON"),
        ({"MAILFERRY_MAILDROP__ALICE__PASSWORD": "{oops"}, "MAILFERRY_MAILDROP__ALICE__PASSWORD: maildrop.alice.password: must say"),
        ({"MAILFERRY_MAILDROP__ALICE__PASSWORD__FILE": "/nowhere/x"}, "MAILFERRY_MAILDROP__ALICE__PASSWORD__FILE: maildrop.alice.password: the file"),
        ({"STATE_DIRECTORY": "/bad\ndirectory"}, "STATE_DIRECTORY: daemon.state_dir: must not contain"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_named(problems: Problems, environ: dict[str, str], words: str) -> None:
    (problem,) = problems(VALID, environ=environ)
    assert words in str(problem)


def test_a_missing_key_of_a_maildrop_from_variables_names_the_variable_to_set(problems: Problems) -> None:
    found = problems(VALID, environ={"MAILFERRY_MAILDROP__BOB__HOST": "pop.example.net"})
    assert {problem.file for problem in found} == {
        "MAILFERRY_MAILDROP__BOB__USERNAME",
        "MAILFERRY_MAILDROP__BOB__PASSWORD",
        "MAILFERRY_MAILDROP__BOB__DELIVER",
    }


@pytest.mark.parametrize(
    "variable",
    ["MAILFERRY_CONFIG", "MAILFERRY_SERVICE_HOST", "MAILFERRY_SERVICE_PORT_HTTP", "MAILFERRY_PORT_9465_TCP"],
)
def test_variables_that_a_platform_makes_are_passed_over(load: Load, variable: str) -> None:
    assert load(VALID, environ={variable: "tcp://10.0.0.7:9465"})


def test_the_state_directory_of_systemd_is_the_default(load: Load) -> None:
    environ = {"STATE_DIRECTORY": "/var/lib/one:/var/lib/two"}
    assert load(VALID, environ=environ).daemon.state_dir == Path("/var/lib/one")
    assert load('[daemon]\nstate_dir = "/own"\n' + VALID, environ=environ).daemon.state_dir == Path("/own")


def test_a_destination_switched_off_by_a_variable_counts_as_off(problems: Problems) -> None:
    (problem,) = problems(VALID, environ={"MAILFERRY_DESTINATION__OFFICE__ENABLED": "no"})
    assert problem.key == "maildrop.alice.deliver"


def test_a_misspelt_table_is_blamed_on_its_variable(problems: Problems) -> None:
    (problem,) = problems(VALID, environ={"MAILFERRY_DEAMON__TRACE": "1", "MAILFERRY_DEAMON__X": "1"})
    assert str(problem).startswith("MAILFERRY_DEAMON__TRACE: deamon: unknown table; did you mean 'daemon'?")


def test_a_misspelt_table_of_the_file_stays_the_files_own(problems: Problems) -> None:
    (problem,) = problems(f"{VALID}[deamon]\ntrace = true\n", environ={"MAILFERRY_DEAMON__X": "1"})
    assert (Path(problem.file).name, problem.key) == ("mailferry.toml", "deamon")


def test_a_default_file_that_cannot_be_looked_for_is_a_problem(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_more: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match="cannot be read: permission denied"):
        load_settings(environ={key: v for key, v in alone(directory).items() if "VAULT" not in key})


@pytest.mark.parametrize("odd", ["\udcb5", "\x1b[2J", "\n"])
def test_a_variable_whose_name_is_no_text_is_refused_and_can_be_printed(problems: Problems, odd: str) -> None:
    (problem,) = problems(VALID, environ={f"MAILFERRY_MAILDROP__A{odd}__HOST": "pop.example.net"})
    assert problem.file.startswith("MAILFERRY_MAILDROP__A?")
    assert problem.file.isprintable()
    assert "no printable text" in problem.problem
