"""The main job on real servers: a private Dovecot drained into a private Postfix."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.certificates import LocalAuthority
from support.configs import PASSWORD, ConfigFolder, Value
from support.daemon import DaemonProcess
from support.dovecot import PrivateDovecot
from support.mailset import fingerprint, make_messages, tag_of
from support.postfix import PrivatePostfix

pytestmark = [pytest.mark.real_server, pytest.mark.timeout(240)]

USERS = ("ann", "ben", "cleo")


@pytest.fixture
def postfix(tmp_path: Path) -> Iterator[PrivatePostfix]:
    with PrivatePostfix(tmp_path / "postfix") as server:
        yield server


@pytest.fixture
def dovecot(tmp_path: Path) -> Iterator[PrivateDovecot]:
    with PrivateDovecot(tmp_path / "dovecot") as server:
        yield server


def modes(dovecot: PrivateDovecot, ca_file: Path) -> dict[str, dict[str, Any]]:
    """One maildrop for each way to protect the link."""
    return {
        "ann": {"port": dovecot.port, "tls": "none"},
        "ben": {"port": dovecot.port, "tls": "starttls", "tls_ca_file": ca_file},
        "cleo": {"port": dovecot.tls_port, "tls": "implicit", "tls_ca_file": ca_file},
    }


def ca_file(folder: Path, authority: LocalAuthority) -> Path:
    path = folder / "ca.pem"
    path.write_bytes(authority.ca_pem)
    return path


def fill(dovecot: PrivateDovecot, total: int) -> dict[str, list[bytes]]:
    mail = {
        user: make_messages(total // len(USERS) + (number < total % len(USERS)), seed=number + 1)
        for number, user in enumerate(USERS)
    }
    for user, messages in mail.items():
        dovecot.add_user(user, PASSWORD, messages)
    return mail


def configure(
    tmp_path: Path, dovecot: PrivateDovecot, postfix: PrivatePostfix, *, max_sessions: int = 8, **more: Value
) -> Path:
    folder = ConfigFolder(tmp_path / "mailferry")
    tables: dict[str, Mapping[str, Value]] = {
        f"maildrop.{user}": folder.maildrop(user=user, every="2s", **mode, **more)
        for user, mode in modes(dovecot, ca_file(tmp_path, dovecot.authority)).items()
    }
    tables["destination.hop"] = folder.smtp(postfix.port, max_sessions=max_sessions)
    return folder.write(tables, log_format="json")


def poll_once(config: Path) -> DaemonProcess:
    with DaemonProcess(config, command="once") as program:
        assert program.wait(200) == 0, "".join(program.raw[-20:])
        return program


def arrived(postfix: PrivatePostfix, count: int) -> collections.Counter[str]:
    return collections.Counter(fingerprint(content) for content in postfix.wait_delivered(count, 90))


def wanted(mail: Mapping[str, list[bytes]]) -> collections.Counter[str]:
    return collections.Counter(fingerprint(content) for messages in mail.values() for content in messages)


@pytest.mark.parametrize("keep", [False, True])
def test_two_thousand_messages_arrive_octet_for_octet(
    tmp_path: Path, dovecot: PrivateDovecot, postfix: PrivatePostfix, keep: bool
) -> None:
    mail = fill(dovecot, 2000)
    before = {user: dovecot.messages_left(user) for user in USERS}
    config = configure(tmp_path, dovecot, postfix, keep=keep)

    poll_once(config)
    assert arrived(postfix, 2000) == wanted(mail)
    for user in USERS:
        assert dovecot.messages_left(user) == (before[user] if keep else [])

    poll_once(config)
    assert len(postfix.delivered()) == 2000


def test_kill_9_in_mid_drain_loses_nothing_and_doubles_at_most_one_message_per_kill(
    tmp_path: Path, dovecot: PrivateDovecot, postfix: PrivatePostfix
) -> None:
    mail = fill(dovecot, 2000)
    # A machine that is busy enough makes the next hop look far away, and far away more sessions pay.
    config = configure(tmp_path, dovecot, postfix, max_sessions=1, keep=False)

    kills = 0
    for threshold in (150, 400, 250):
        with DaemonProcess(config) as daemon:
            daemon.wait_for(
                lambda daemon=daemon, threshold=threshold: len(daemon.named("message.relayed")) >= threshold,  # type: ignore[misc]
                f"{threshold} relayed messages",
                90,
            )
            daemon.kill()
            kills += 1
    poll_once(config)

    got = arrived(postfix, 2000)
    want = wanted(mail)
    assert set(got) == set(want), "lost or altered"
    doubled = sum(got.values()) - sum(want.values())
    assert doubled <= kills, {tag_of(c) for c in postfix.delivered() if got[fingerprint(c)] > 1}
    assert all(dovecot.messages_left(user) == [] for user in USERS)
