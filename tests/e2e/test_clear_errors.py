"""Whatever is set up wrongly: one clear message that says what to do, and no mail is touched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailferry.sandbox.maildrop import SandboxMaildrop
from mailferry.sandbox.pop3_server import SandboxPop3Server
from mailferry.sandbox.smtp_sink import SmtpSink
from support.certificates import LocalAuthority, ServerCertificate, self_signed
from support.configs import PASSWORD, ConfigFolder, Value
from support.daemon import DaemonProcess
from support.mailset import make_messages
from support.processes import unavailable

MAIL = make_messages(40, seed=3, sizes=(500, 3000))
EX_CONFIG, EX_IOERR = 78, 74


@dataclass
class Place:
    """A POP3 server with mail, a sink, and a folder for a configuration."""

    folder: ConfigFolder
    box: SandboxMaildrop
    sink: SmtpSink
    pop3: SandboxPop3Server

    async def once(self, config: Path) -> tuple[int, str]:
        """Run `mailferry once` and return its exit code and all that it said."""
        with DaemonProcess(config, command="once") as program:
            code = await asyncio.to_thread(program.wait, 30)
            return code, "".join(program.raw)

    def config(self, **maildrop: Value) -> Path:
        tables: dict[str, Mapping[str, Value]] = {
            "maildrop.ann": self.folder.maildrop(self.pop3.port, "ann", **maildrop),
            "destination.hop": self.folder.smtp(self.sink.port),
        }
        return self.folder.write(tables)

    def assert_untouched(self) -> None:
        assert self.box.messages == MAIL
        assert list(self.sink.received) == []


@contextlib.asynccontextmanager
async def place(tmp_path: Path, tls: ssl.SSLContext | None = None) -> AsyncIterator[Place]:
    box = SandboxMaildrop(PASSWORD, MAIL)
    pop3 = SandboxPop3Server({"ann": box}, tls=tls, implicit_tls=tls is not None)
    sink = SmtpSink()
    await pop3.start()
    await sink.start()
    try:
        yield Place(ConfigFolder(tmp_path / "mailferry"), box, sink, pop3)
    finally:
        await pop3.stop()
        await sink.stop()


async def test_a_wrong_password(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        here.folder.secret.write_text("wrong horse\n")
        code, said = await here.once(here.config())
        assert code != 0
        assert "Check username and password" in said
        assert "wrong horse" not in said
        here.assert_untouched()


@pytest.mark.parametrize(
    ("host", "words"), [("127.0.0.1", "cannot connect"), ("no-such-host.invalid", "cannot connect")]
)
async def test_a_wrong_host(tmp_path: Path, host: str, words: str) -> None:
    async with place(tmp_path) as here:
        port = here.pop3.port
        config = here.config(host=host)
        await here.pop3.stop()
        code, said = await here.once(config)
        assert code != 0
        assert words in said
        assert f"{host}:{port}" in said
        assert here.box.messages == MAIL


@pytest.mark.parametrize("fault", ["expired", "self-signed", "wrong host", "unknown authority"])
async def test_a_certificate_that_is_not_right(tmp_path: Path, fault: str) -> None:
    authority = LocalAuthority()
    certificates: dict[str, tuple[ServerCertificate, str]] = {
        "expired": (authority.expired(), "It has expired"),
        "self-signed": (self_signed(), "pin it with tls_fingerprint"),
        "wrong host": (authority.wrong_host(), "Use the name that the certificate is for"),
        "unknown authority": (LocalAuthority().good(), "give its authority in tls_ca_file"),
    }
    certificate, words = certificates[fault]
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.ca_pem)
    async with place(tmp_path, certificate.server_context(tmp_path)) as here:
        code, said = await here.once(here.config(tls="implicit", tls_ca_file=ca_file))
        assert code != 0
        assert words in said
        assert here.pop3.counts["logins"] + here.pop3.counts["refused"] == 0
        here.assert_untouched()


async def test_an_unknown_key(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        code, said = await here.once(here.config(pasword="x"))
        assert code == EX_CONFIG
        assert "mailferry.toml" in said
        assert "maildrop.ann.pasword" in said
        assert "did you mean" in said
        here.assert_untouched()


async def test_an_unreadable_state(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        config = here.config()
        (here.folder.state / "ledger.sqlite3").write_bytes(b"this is no ledger" * 1000)
        code, said = await here.once(config)
        assert code == EX_IOERR
        assert "ledger.sqlite3" in said
        here.assert_untouched()


async def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        config = here.config()
        with small_disk(here.folder.state, "64k"):
            code, said = await here.once(config)
        assert code == EX_IOERR
        assert "full" in said
        here.assert_untouched()


async def test_a_disk_that_fills_in_mid_drain_doubles_nothing_and_recovers(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        config = here.config()
        with small_disk(here.folder.state, "8m") as fill:
            assert (await here.once(config))[0] == 0  # the ledger exists now
            for message in make_messages(400, seed=4, sizes=(300,)):
                here.box.append(message)
            fill()
            code, said = await here.once(config)
            assert code != 0
            assert "full" in said
            (here.folder.state / "filler").unlink()
            assert (await here.once(config))[0] == 0
        assert here.box.messages == []
        assert len(here.sink.received) == len(MAIL) + 400


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Callable[[], None]]:
    """Mount a small tmpfs; yields a function that fills what is left of it."""
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(path)],
        check=False,
        capture_output=True,
    )
    if mount.returncode != 0:
        unavailable("a small file system can only be mounted as root: " + mount.stderr.decode().strip())
    try:
        yield lambda: _fill(path / "filler")
    finally:
        subprocess.run(["umount", str(path)], check=True)


def _fill(path: Path) -> None:
    """Take all that is left, down to the last block."""
    filler = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    with contextlib.suppress(OSError):
        while True:
            os.write(filler, b"\0" * 4096)
    os.close(filler)
