from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailferry.config import (
    LmtpDestinationSettings,
    MaildirDestinationSettings,
    Settings,
    SmtpDestinationSettings,
    config_path,
    load_settings,
    loading,
)
from mailferry.errors import ConfigError, ConfigProblem

from .conftest import DESTINATION, MAILDROP, VALID

Load = Callable[..., Settings]
Problems = Callable[..., tuple[ConfigProblem, ...]]


def test_defaults_of_a_small_configuration(load: Load) -> None:
    settings = load(VALID)
    alice, office = settings.maildrop["alice"], settings.destination["office"]
    assert isinstance(office, SmtpDestinationSettings)
    assert office.cleartext_allowed is False
    assert (alice.tls, alice.resolved_port, alice.every, alice.cron, alice.keep) == (
        "implicit",
        995,
        300.0,
        None,
        False,
    )
    assert (alice.resolved_jitter, alice.timeout, alice.max_size, alice.deliver) == (
        30.0,
        60.0,
        50 << 20,
        ("office",),
    )
    assert alice.password is not None
    assert alice.password.reveal() == "correct horse"
    assert (office.tls, office.resolved_port, office.sender, office.final_timeout) == (
        "starttls",
        587,
        "original",
        600.0,
    )
    assert (settings.http.host, settings.http.port) == ("127.0.0.1", 9465)
    assert settings.ledger_url == "sqlite:////var/lib/mailferry/ledger.sqlite3"
    assert settings.daemon.memory_budget == 256 << 20


def test_settings_are_frozen(load: Load) -> None:
    settings = load(VALID)
    with pytest.raises(ValueError, match="frozen"):
        settings.maildrop["alice"].host = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        settings.daemon = settings.daemon  # type: ignore[misc]


def test_a_maildrop_inherits_what_it_does_not_say(load: Load) -> None:
    head = '[defaults]\ntls = "starttls"\nkeep = "14d"\ntimeout = 7\ndeliver = ["office"]\n'
    settings = load(head + VALID.replace('deliver = ["office"]', "keep = true"))
    alice = settings.maildrop["alice"]
    assert (alice.tls, alice.resolved_port, alice.timeout) == ("starttls", 110, 7.0)
    assert alice.keep is True
    assert alice.deliver == ("office",)
    assert settings.defaults.keep == 14 * 86400.0


@pytest.mark.parametrize(
    ("defaults", "own", "every", "cron"),
    [
        ('every = "1h"', "", 3600.0, None),
        ('every = "1h"', 'every = "2h"', 7200.0, None),
        ('every = "1h"', 'cron = "0 * * * *"', 300.0, "0 * * * *"),
        ('cron = "0 * * * *"', "", 300.0, "0 * * * *"),
        ('cron = "0 * * * *"', 'every = "2h"', 7200.0, None),
    ],
)
def test_every_and_cron_hide_each_other(
    load: Load, defaults: str, own: str, every: float, cron: str | None
) -> None:
    alice = load(f"[defaults]\n{defaults}\n\n{VALID}{own}\n").maildrop["alice"]
    assert (alice.every, alice.cron) == (every, cron)
    assert alice.resolved_jitter == (0.0 if cron else every / 10)


def test_both_schedules_in_the_defaults_are_one_problem(problems: Problems) -> None:
    found = problems(
        '[defaults]\nevery = "5m"\ncron = "* * * * *"\n' + VALID + MAILDROP.replace("alice]", "bob]")
    )
    assert [problem.key for problem in found] == ["defaults.cron"]


def test_relative_paths_count_from_the_file_that_names_them(load: Load, directory: Path) -> None:
    (directory / "conf.d" / "secrets").mkdir(parents=True)
    (directory / "conf.d" / "secrets" / "alice").write_text("branch\n")
    (directory / "conf.d" / "secrets" / "alice").chmod(0o600)
    text = '[daemon]\nstate_dir = "state"\n' + VALID
    vault = '[destination.vault]\ntype = "maildir"\npath = "vault"\n'
    settings = load(text, branch=MAILDROP.replace("alice]", "branch]") + vault)
    assert settings.daemon.state_dir == directory / "state"
    assert settings.ledger_url == f"sqlite:///{directory}/state/ledger.sqlite3"
    assert isinstance(settings.destination["vault"], MaildirDestinationSettings)
    assert settings.destination["vault"].path == directory / "conf.d" / "vault"
    passwords = {name: drop.password.reveal() for name, drop in settings.maildrop.items() if drop.password}
    assert passwords == {"alice": "correct horse", "branch": "branch"}


def test_oauth2_needs_no_password(load: Load) -> None:
    text = VALID.replace("password", "oauth2_token") + 'auth = "xoauth2"\n'
    alice = load(text).maildrop["alice"]
    assert alice.password is None
    assert alice.oauth2_token is not None


def test_a_token_that_no_login_would_use_is_a_problem(problems: Problems) -> None:
    (problem,) = problems(VALID.replace("password", "oauth2_token") + 'auth = "plain"\n')
    assert problem.key == "maildrop.alice.oauth2_token"


def test_cleartext_needs_words_but_not_towards_this_machine(load: Load) -> None:
    text = VALID.replace('host = "smtp.example.org"', 'host = "localhost"\ntls = "none"')
    settings = load(text + 'tls = "none"\nallow_cleartext = true\n')
    office = settings.destination["office"]
    assert isinstance(office, SmtpDestinationSettings)
    assert (office.resolved_port, office.allow_cleartext, office.cleartext_allowed) == (25, False, True)
    assert settings.maildrop["alice"].resolved_port == 110


def test_ports_by_service_name(load: Load) -> None:
    assert load(VALID + 'port = "pop3"\n').maildrop["alice"].resolved_port == 110


def test_an_lmtp_server_is_at_port_24_or_a_socket(load: Load) -> None:
    settings = load(
        VALID
        + '[destination.a]\ntype = "lmtp"\nhost = "127.0.0.1"\nrecipients = ["a@example.org"]\n'
        + '[destination.b]\ntype = "lmtp"\nsocket = "/run/lmtp"\nrecipients = "original"\n'
    )
    a, b = settings.destination["a"], settings.destination["b"]
    assert isinstance(a, LmtpDestinationSettings)
    assert isinstance(b, LmtpDestinationSettings)
    assert (a.where, a.tls, a.resolved_port) == ("127.0.0.1:24", "none", 24)
    assert (b.where, b.recipients, b.cleartext_allowed) == ("/run/lmtp", (), True)


def test_a_fingerprint_loses_its_colons(load: Load) -> None:
    colons = ":".join(["AB"] * 32)
    assert load(f'{VALID}tls_fingerprint = "{colons}"\n').maildrop["alice"].tls_fingerprint == "ab" * 32


# Files.


def test_the_path_is_the_argument_or_the_variable_or_the_default() -> None:
    environ = {"MAILFERRY_CONFIG": "/from/variable.toml"}
    assert config_path(Path("/argument.toml"), environ) == Path("/argument.toml")
    assert config_path(None, environ) == Path("/from/variable.toml")
    assert config_path(None, {}) == Path("/etc/mailferry/mailferry.toml")


def test_the_variable_names_the_file(load: Load, directory: Path) -> None:
    load(VALID)
    environ = {"MAILFERRY_CONFIG": str(directory / "mailferry.toml")}
    assert list(load_settings(environ=environ).maildrop) == ["alice"]


@pytest.mark.parametrize("kind", ["missing", "directory", "not a directory above"])
def test_a_main_file_that_cannot_be_read(tmp_path: Path, kind: str) -> None:
    path, words = tmp_path / "mailferry.toml", "does not exist"
    if kind == "directory":
        path.mkdir()
        words = "is a directory"
    elif kind == "not a directory above":
        path.write_text("")
        path, words = path / "below.toml", "cannot be"
    with pytest.raises(ConfigError) as caught:
        load_settings(path, environ={})
    assert caught.value.exit_code == 78
    assert all(words in problem.problem for problem in caught.value.problems)
    assert caught.value.problems[0].file == str(path)


def test_a_file_without_permission_is_a_problem(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Simulated, because tests may run as root, whom no mode stops.
    def refusing(path: Path, mode: str) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(ConfigError, match="permission denied; the daemon's user must be able to read it"):
        load_settings(directory / "mailferry.toml", environ={})


def test_a_drop_in_adds_tables(load: Load) -> None:
    settings = load(DESTINATION, **{"10-alice": MAILDROP.replace("secrets/", "../secrets/")})
    assert list(settings.maildrop) == ["alice"]


def test_only_visible_toml_files_are_drop_ins(load: Load, directory: Path) -> None:
    (directory / "conf.d").mkdir()
    for name in (".hidden.toml", "alice.toml~", "alice.toml.disabled", "README"):
        (directory / "conf.d" / name).write_text("this is [not TOML")
    assert list(load(VALID).maildrop) == ["alice"]


def test_a_name_defined_twice_is_a_problem_that_names_both_files(problems: Problems, directory: Path) -> None:
    found = problems(VALID, a=DESTINATION, b="# one line more\n" + DESTINATION)
    assert [str(problem).removeprefix(f"{directory}/") for problem in found] == [
        f"conf.d/a.toml:1: destination.office: is already defined in {directory}/mailferry.toml:1; a name can be defined once",
        f"conf.d/b.toml:2: destination.office: is already defined in {directory}/mailferry.toml:1; a name can be defined once",
    ]


@pytest.mark.parametrize("section", ["daemon", "http", "ledger", "defaults", "foo"])
def test_a_drop_in_holds_named_tables_only(problems: Problems, directory: Path, section: str) -> None:
    (problem,) = problems(VALID, a=f"\n[{section}]\n")
    assert (problem.file, problem.line, problem.key) == (f"{directory}/conf.d/a.toml", 2, section)
    assert "does not belong in a drop-in" in problem.problem


def test_a_problem_in_a_drop_in_names_the_drop_in(problems: Problems, directory: Path) -> None:
    (problem,) = problems(VALID, a='[etrn.x]\nhost = "a b"\nnodes = ["example.org"]\n')
    assert str(problem).startswith(f"{directory}/conf.d/a.toml:2: etrn.x.host: must be a host name")


def test_all_broken_files_are_reported_at_once(problems: Problems) -> None:
    found = problems(
        "a = \n", a="b = \n", b='[maildrop.x]\nhost = "ok"\n', c=b"\xff".decode("latin-1") + " = 1"
    )
    assert [Path(problem.file).name for problem in found] == ["mailferry.toml", "a.toml", "c.toml"]
    assert [problem.line for problem in found] == [1, 1, 1]


def test_a_drop_in_directory_that_is_a_file(problems: Problems, directory: Path) -> None:
    (directory / "conf.d").write_text("")
    (problem,) = problems(VALID)
    assert (problem.file, "cannot be listed" in problem.problem) == (f"{directory}/conf.d", True)


def test_a_drop_in_that_is_a_directory(problems: Problems, directory: Path) -> None:
    (directory / "conf.d" / "a.toml").mkdir(parents=True)
    (problem,) = problems(VALID)
    assert "is a directory" in problem.problem


def test_brackets_without_end(problems: Problems) -> None:
    (problem,) = problems("a = " + "[" * 100_000)
    assert problem.problem in {
        "nests brackets too deeply",
        "a bracket [ is not closed (at the end of the file)",
    }


@pytest.mark.parametrize("number", ["9" * 4301, "1_" + "0_" * 4300 + "0", "[1, -" + "7" * 5000 + "]"])
def test_a_number_without_end(problems: Problems, number: str) -> None:
    (problem,) = problems(f"\nport = {number}\n")
    assert (problem.problem, problem.line) == ("holds a number of too many digits", 2)


def test_a_maildir_on_a_broken_disk_is_not_a_matter_of_permission(
    problems: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "exists", fail)
    (problem,) = problems(f'{VALID}[destination.vault]\ntype = "maildir"\npath = "/srv/vault"\n')
    assert problem.problem == "cannot be looked at: Input/output error"


def test_a_file_without_end(problems: Problems) -> None:
    (problem,) = problems(b"#" * ((16 << 20) + 1))
    assert problem.problem == "is larger than 16 MiB"


def test_a_key_may_have_any_characters(problems: Problems) -> None:
    found = problems(VALID + '"with.dot" = 1\n"with\\nline" = 2\n"_env_file" = "x"\n"layers" = 1\n')
    keys = [problem.key for problem in found]
    assert keys == [
        'maildrop.alice."with.dot"',
        'maildrop.alice."with?line"',
        "maildrop.alice._env_file",
        "maildrop.alice.layers",
    ]


@pytest.mark.parametrize("key", ["_env_file", "_cli_parse_args", "layers", "model_config", "self", "Daemon"])
def test_no_key_reaches_the_library_behind_the_model(problems: Problems, key: str) -> None:
    (problem,) = problems(f"{key} = 1\n{VALID}")
    assert (problem.line, problem.key) == (1, key)
    assert problem.problem.startswith("unknown table")


# Speed: an administrator's reload must not be noticed.


def _many(directory: Path, drop_ins: bool) -> Path:
    tables = [
        MAILDROP.replace("alice]", f"user{n}]").replace("secrets/", f"{directory}/secrets/")
        for n in range(1000)
    ]
    path = directory / "mailferry.toml"
    path.write_text(DESTINATION + ("" if drop_ins else "\n".join(tables)))
    (directory / "conf.d").mkdir()
    for number, table in enumerate(tables if drop_ins else []):
        (directory / "conf.d" / f"{number}.toml").write_text(table)
    return path


@pytest.mark.parametrize("drop_ins", [False, True], ids=["one file", "drop-ins"])
def test_a_thousand_maildrops_load_quickly(directory: Path, drop_ins: bool) -> None:
    path = _many(directory, drop_ins)
    began = time.process_time()  # not the wall clock: other work on the machine does not count
    settings = load_settings(path, environ={})
    assert time.process_time() - began < 1.5
    assert len(settings.maildrop) == 1000


def test_a_thousand_problems_are_told_quickly(directory: Path) -> None:
    path = _many(directory, drop_ins=False)
    path.write_text(path.read_text().replace("username", "usrname"))
    began = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_settings(path, environ={})
    assert time.process_time() - began < 3
    assert len(caught.value.problems) == 2000


def test_the_default_path_may_not_be_absent_without_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "DEFAULT_PATH", tmp_path / "mailferry.toml")
    with pytest.raises(ConfigError, match="does not exist"):
        load_settings(environ={"MAILFERRY_DAEMON__TRACE": "true"})


def test_a_maildir_below_a_closed_folder_is_a_problem_with_its_place(
    problems: Callable[..., tuple[ConfigProblem, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exists(path: Path) -> bool:
        if path.is_relative_to("/closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return True

    monkeypatch.setattr(Path, "exists", exists)
    (problem,) = problems(f'{VALID}[destination.vault]\ntype = "maildir"\npath = "/closed/vault"\n')
    assert (problem.key, problem.line) == ("destination.vault.path", VALID.count("\n") + 3)
    assert "permission denied; the daemon's user must be able to enter its folders" in problem.problem


def test_a_jitter_is_measured_against_the_maildrops_own_interval(load: Callable[..., Settings]) -> None:
    settings = load(f'[defaults]\njitter = "20m"\n{VALID}every = "1h"\n')
    assert settings.maildrop["alice"].resolved_jitter == 1200.0
    assert load(f'{VALID}cron = "0 * * * *"\njitter = "20m"\n').maildrop["alice"].resolved_jitter == 1200.0


ABSENT = VALID.replace("secrets/alice", "secrets/nobody")


@pytest.mark.parametrize("environ", [{}, {"MAILFERRY_MAILDROP__ALICE__ENABLED": "no"}])
def test_a_disabled_maildrop_needs_no_secret(load: Load, environ: dict[str, str]) -> None:
    text = ABSENT if environ else f"{ABSENT}enabled = false\n"
    assert load(text, environ=environ).maildrop["alice"].password is not None


def test_a_disabled_destination_needs_no_secret(load: Load) -> None:
    idle = 'username = "x"\npassword = { credential = "relay" }\nenabled = false\n'
    text = f"{VALID}[destination.idle]\n{DESTINATION.partition(chr(10))[2]}{idle}"
    assert load(text).destination["idle"].enabled is False


def test_a_secret_that_a_variable_replaces_is_not_looked_for(load: Load) -> None:
    environ = {"MAILFERRY_MAILDROP__ALICE__PASSWORD__ENV": "ALICE", "ALICE": "there"}
    assert load(ABSENT, environ=environ).maildrop["alice"].password is not None


def test_secrets_are_not_looked_for_when_nobody_needs_them(load: Load, directory: Path) -> None:
    load(VALID)
    (directory / "secrets" / "alice").unlink()
    path = directory / "mailferry.toml"
    assert load_settings(path, environ={}, check_secrets=False).maildrop["alice"].password is not None
    with pytest.raises(ConfigError, match=r"maildrop\.alice\.password: .*does not exist"):
        load_settings(path, environ={})


def test_a_malformed_secret_is_a_problem_even_then(load: Load, directory: Path) -> None:
    load(VALID)
    path = directory / "mailferry.toml"
    path.write_text(VALID.replace('{ file = "secrets/alice" }', '"hunter2"'))
    with pytest.raises(ConfigError, match="must say where the secret lies"):
        load_settings(path, environ={}, check_secrets=False)


def test_a_named_pipe_among_the_drop_ins_is_not_waited_for(problems: Problems, directory: Path) -> None:
    (directory / "conf.d").mkdir()
    os.mkfifo(directory / "conf.d" / "10-pipe.toml")
    (found,) = problems(VALID)
    assert (found.file, found.problem) == (
        str(directory / "conf.d" / "10-pipe.toml"),
        "is a named pipe; a file is needed",
    )
