"""A private Postfix: the real SMTP server on a loopback port, delivering into a Maildir.

It has its own configuration, queue and data folders and its own master; the
system's instance and /etc/postfix are never touched. Postfix starts only as
root. Nothing leaves the machine: every address has one and the same mailbox.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from support.certificates import ServerCertificate
from support.processes import free_port, greets, require, require_root, wait_until

MAX_MESSAGE_OCTETS = 200 * 1024 * 1024
_COMMAND_SECONDS = 60
_DAEMON_FOLDERS = ("/usr/lib/postfix/sbin", "/usr/libexec/postfix", "/usr/lib/postfix")
_SERVICES = """\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
smtp unix - - n - - smtp
relay unix - - n - - smtp
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class PrivatePostfix:
    """A Postfix that takes any mail for `example.org` and `example.net` on `port`.

    It offers PIPELINING, SIZE, ETRN, 8BITMIME, DSN, SMTPUTF8 and CHUNKING, and
    STARTTLS when it has a certificate. `settings` are added to main.cf; a test
    may set `smtpd_recipient_restrictions` and the like, or with `relay_domains`
    and `relay_transport` have it keep mail for another server on loopback.

    Attributes:
        log: Postfix's log file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        certificate: ServerCertificate | None = None,
        settings: dict[str, str] | None = None,
    ) -> None:
        self._program = require("postfix")
        require_root("a private Postfix")
        self.port = free_port()
        self.log = folder / "postfix.log"
        self._certificate = certificate
        self._settings = settings or {}
        # Postfix's own user must reach its folders, and pytest's are root's alone.
        self._own_folder = Path(tempfile.mkdtemp(prefix="postfix-"))
        self._own_folder.chmod(0o755)
        self._config_folder = self._own_folder / "config"
        folder.mkdir(parents=True, exist_ok=True)
        self._write_config()

    # --- what was delivered -----------------------------------------------------

    def delivered(self) -> list[bytes]:
        """Return the delivered messages as virtual(8) wrote them: trace fields on top, line ends LF."""
        new = self._own_folder / "mail" / "all" / "new"
        return [path.read_bytes() for path in sorted(new.iterdir())] if new.is_dir() else []

    def wait_delivered(self, count: int, seconds: float = 30.0) -> list[bytes]:
        """Wait until so many messages are delivered; return them.

        Raises:
            TimeoutError: they were not, in time.
        """
        new = self._own_folder / "mail" / "all" / "new"
        wait_until(
            lambda: new.is_dir() and len(list(new.iterdir())) >= count, f"{count} delivered messages", seconds
        )
        return self.delivered()

    # --- the process ------------------------------------------------------------

    def start(self) -> None:
        """Start it and wait until the port answers.

        Raises:
            RuntimeError: it did not start; what it said is in the text.
        """
        self._command("start")
        try:
            wait_until(lambda: greets(self.port, b"220"), "postfix")
        except TimeoutError as error:
            self.stop()
            raise RuntimeError(f"postfix: {self.log.read_text(errors='replace')[-2000:]}") from error

    def stop(self) -> None:
        """End this instance; what was delivered stays. Safe to call twice."""
        if self.running:
            self._command("stop")

    @property
    def running(self) -> bool:
        """Whether its master runs."""
        return self._run("status").returncode == 0

    def close(self) -> None:
        """End it and remove its folders."""
        self.stop()
        shutil.rmtree(self._own_folder, ignore_errors=True)

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except RuntimeError:
            self.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close it."""
        self.close()

    def _command(self, verb: str) -> None:
        answer = self._run(verb)
        if answer.returncode != 0:
            log = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
            raise RuntimeError(f"postfix {verb}: {answer.stdout}{answer.stderr}{log}")

    def _run(self, verb: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, "-c", self._config_folder, verb],
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_SECONDS,
            env={**os.environ, "MAIL_CONFIG": str(self._config_folder)},
        )

    # --- the configuration --------------------------------------------------------

    def _write_config(self) -> None:
        owner = pwd.getpwnam("postfix")
        for name in ("config", "queue", "data", "mail"):
            (self._own_folder / name).mkdir(mode=0o755)
        for name in ("data", "mail"):
            os.chown(self._own_folder / name, owner.pw_uid, owner.pw_gid)
        (self._config_folder / "main.cf").write_text(self._main_cf(owner), encoding="utf-8")
        listener = f"127.0.0.1:{self.port} inet n - n - - smtpd\n"
        (self._config_folder / "master.cf").write_text(listener + _SERVICES, encoding="utf-8")
        self.log.touch()

    def _main_cf(self, owner: pwd.struct_passwd) -> str:
        settings = {
            "compatibility_level": "3.6",
            "config_directory": str(self._config_folder),
            "queue_directory": str(self._own_folder / "queue"),
            "data_directory": str(self._own_folder / "data"),
            "daemon_directory": _daemon_folder(),
            "maillog_file": str(self.log),
            "maillog_file_prefixes": str(self.log.parent),
            "myhostname": "postfix.test.example.org",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "inet_protocols": "ipv4",
            "inet_interfaces": "127.0.0.1",
            "alias_maps": "",
            "alias_database": "",
            "local_recipient_maps": "",
            "virtual_mailbox_domains": "example.org, example.net",
            "virtual_mailbox_base": str(self._own_folder / "mail"),
            "virtual_mailbox_maps": "static:all/",
            "virtual_uid_maps": f"static:{owner.pw_uid}",
            "virtual_gid_maps": f"static:{owner.pw_gid}",
            "virtual_minimum_uid": "1",
            "virtual_mailbox_limit": "0",
            "message_size_limit": str(MAX_MESSAGE_OCTETS),
            "default_transport": "error:no mail leaves this machine",
            "relay_transport": "error:no mail leaves this machine",
            # Several recipients of one message are one delivery each.
            "virtual_destination_recipient_limit": "1",
            "smtpd_peername_lookup": "no",
            "disable_dns_lookups": "yes",
            "smtpd_client_connection_count_limit": "0",
            "smtputf8_enable": "yes",
            # Nothing is added to a header or taken from it, so that messages can be compared.
            "local_header_rewrite_clients": "",
            "message_drop_headers": "",
            **self._tls_settings(),
            **self._settings,
        }
        return "".join(f"{name} = {value}\n" for name, value in settings.items())

    def _tls_settings(self) -> dict[str, str]:
        if self._certificate is None:
            return {"smtpd_tls_security_level": "none"}
        chain, key = self._certificate.write(self._config_folder, "postfix")
        return {
            "smtpd_tls_security_level": "may",
            "smtpd_tls_cert_file": str(chain),
            "smtpd_tls_key_file": str(key),
        }


def _daemon_folder() -> str:
    for folder in _DAEMON_FOLDERS:
        if (Path(folder) / "master").exists():
            return folder
    raise FileNotFoundError("no folder with Postfix's master in it")
