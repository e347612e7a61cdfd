from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import pytest

from mailferry.config import Secret
from mailferry.config.maildrop import MaildropSettings
from mailferry.errors import SecretError

VALUE = "correct horse battery staple"


def secret(value: object, base: Path = Path("/"), environ: dict[str, str] | None = None) -> Secret:
    found = Secret.from_table(value, base=base, environ=environ or {})
    found.check()
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "alice"
    path.write_text(f"{VALUE}\n")
    path.chmod(0o600)
    return path


def test_a_file_is_read_without_its_newline_and_counts_from_its_base(file: Path) -> None:
    assert secret({"file": "alice"}, file.parent).reveal() == VALUE
    assert secret({"file": str(file)}).reveal() == VALUE


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_only_the_newline_at_the_end_is_cut(file: Path, ending: str) -> None:
    file.write_bytes(f" pass word {ending}".encode())
    assert secret({"file": str(file)}).reveal() == " pass word "


def test_a_rotated_file_is_read_again(file: Path) -> None:
    found = secret({"file": str(file)})
    file.write_text("another\n")
    assert found.reveal() == "another"


def test_a_file_that_vanished_is_named_but_not_its_content(file: Path) -> None:
    found = secret({"file": str(file)})
    file.unlink()
    with pytest.raises(SecretError, match=f"file {file} does not exist"):
        found.reveal()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666])
def test_a_file_that_others_can_touch_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ValueError, match="group or others"):
        secret({"file": str(file)})


def test_a_file_in_the_credentials_directory_may_have_any_mode(file: Path) -> None:
    file.chmod(0o444)
    environ = {"CREDENTIALS_DIRECTORY": str(file.parent)}
    assert secret({"file": str(file)}, environ=environ).reveal() == VALUE
    assert secret({"credential": "alice"}, environ=environ).reveal() == VALUE


def test_a_link_out_of_the_credentials_directory_is_no_way_round(file: Path, tmp_path: Path) -> None:
    file.chmod(0o644)
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "alice").symlink_to(file)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    with pytest.raises(ValueError, match="group or others"):
        secret({"file": str(tmp_path / "credentials" / "alice")}, environ=environ)


@pytest.mark.parametrize("name", ["../alice", "a/b", "..", ""])
def test_a_credential_is_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        secret({"credential": name}, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ValueError, match="not a regular file"):
        secret({"file": str(tmp_path / "pipe")})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"one\ntwo\n", "more than one line"),
        (b"one\rtwo", "more than one line"),
        (b"one\0two", "NUL"),
        (b"caf\xe9", "UTF-8"),
        (b"x" * 70_000, "more than 65536 octets"),
    ],
)
def test_what_is_no_secret(file: Path, content: bytes, words: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        secret({"file": str(file)})


def test_a_variable_is_taken_from_the_given_environment() -> None:
    assert secret({"env": "ALICE"}, environ={"ALICE": VALUE}).reveal() == VALUE
    with pytest.raises(ValueError, match="not set"):
        secret({"env": "ALICE"}, environ={"BOB": VALUE})


@pytest.mark.parametrize("command", [["printf", "%s\n", VALUE], f"printf '%s' '{VALUE}'"])
def test_a_command_is_run_without_a_shell(command: object) -> None:
    assert secret({"command": command}).reveal() == VALUE
    assert secret({"command": ["printf", "%s", "$(id); *"]}).reveal() == "$(id); *"


def test_a_command_is_run_only_when_it_is_needed(tmp_path: Path) -> None:
    found = secret({"command": ["tee", str(tmp_path / "ran")]})
    assert not (tmp_path / "ran").exists()
    with pytest.raises(SecretError, match="command tee is empty"):
        found.reveal()
    assert (tmp_path / "ran").exists()


def test_a_failing_command_is_named_without_its_arguments() -> None:
    with pytest.raises(SecretError, match=r"command ls failed \(exit status \d+\)") as caught:
        secret({"command": ["ls", f"/nowhere/{VALUE}"]}).reveal()
    assert VALUE not in str(caught.value)


@pytest.mark.parametrize("command", ["", [], [""], [5], 5, {"a": "b"}, "'open", ["a\0b"]])
def test_what_is_no_command(command: object) -> None:
    with pytest.raises(ValueError, match='"command" must be'):
        secret({"command": command})


@pytest.mark.parametrize(
    "written",
    [VALUE, 12345678, None, [], {}, {"file": "a", "env": "B"}, {"password": VALUE}, {"file": 5}, {"env": ""}],
)
def test_what_says_no_place_is_refused_without_being_repeated(written: object) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        secret(written)
    assert VALUE not in str(caught.value)
    assert "12345678" not in str(caught.value)


def test_a_secret_never_shows_itself() -> None:
    found = secret({"env": "ALICE"}, environ={"ALICE": VALUE})
    maildrop = MaildropSettings.model_validate(
        {"host": "pop.example.net", "username": "alice", "password": found, "deliver": ["office"]}
    )
    shown = f"{found} {found!r} {maildrop} {maildrop!r} {maildrop.model_dump()} {maildrop.model_dump_json()} {found.place}"
    assert VALUE not in shown
    assert not hasattr(found, "__dict__")
    assert VALUE not in repr(found._source)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(found)
    assert copy.deepcopy(found).reveal() == VALUE


def test_secrets_at_the_same_place_are_equal(file: Path) -> None:
    one, other = secret({"file": "alice"}, file.parent), secret({"file": str(file)})
    assert one == other
    assert hash(one) == hash(other)
    assert one != secret({"command": ["cat", str(file)]})


def test_a_missing_file_is_named_as_written_with_the_directory_that_counts(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    with pytest.raises(
        ValueError, match=f'"secrets/nobody" does not exist in {tmp_path}; a relative path counts'
    ):
        secret({"file": "secrets/nobody"}, tmp_path)
    with pytest.raises(ValueError, match=f'"{tmp_path}/secrets/nobody" does not exist$'):
        secret({"file": f"{tmp_path}/secrets/nobody"}, tmp_path)


@pytest.mark.parametrize(
    "written", [VALUE, f"{VALUE}/", f"./{VALUE}", f"/{VALUE}", f"//{VALUE}", f"nowhere/{VALUE}"]
)
def test_what_may_be_the_password_itself_is_not_named(tmp_path: Path, written: str) -> None:
    with pytest.raises(ValueError, match="the file of the secret does not exist") as caught:
        secret({"file": written}, tmp_path)
    assert VALUE not in str(caught.value)


def test_a_file_that_this_user_may_not_read_is_told_with_the_remedy(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ValueError, match="permission denied; the daemon's user must be able to read it"):
        secret({"file": str(file)})


def test_links_in_a_circle_are_no_fault_of_ours(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to(tmp_path / "round")
    with pytest.raises(ValueError, match="cannot be read"):
        secret({"file": "round"}, tmp_path)


def test_without_systemd_a_credential_is_missed_only_when_it_is_looked_for() -> None:
    found = Secret.from_table({"credential": "alice"}, base=Path("/"), environ={})
    with pytest.raises(ValueError, match="the credential cannot be found: "):
        found.check()
    with pytest.raises(SecretError, match="credential alice cannot be found: "):
        found.reveal()
