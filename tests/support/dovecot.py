"""A private Dovecot: the real POP3 and LMTP server on loopback, all its files under one folder.

Runs as root or as an ordinary user, beside any Dovecot of the system, which it
never touches. It is started as our child and ended by its pid.

As root, Dovecot insists on another user for mail, who cannot enter pytest's
private folders; so mail and sockets live in a folder of their own under the
system's temporary folder, and `close` removes it.
"""

from __future__ import annotations

import base64
import grp
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from support.certificates import LocalAuthority, ServerCertificate
from support.processes import Child, free_port, greets, require, unavailable

MECHANISMS = "plain login cram-md5 apop scram-sha-1 scram-sha-256"
_FIRST_ARRIVAL = 1_700_000_000
_SESSIONS = 1000


class PrivateDovecot:
    """A Dovecot with passwd-file users and Maildirs.

    `port` offers STLS and takes logins in cleartext; `tls_port` speaks TLS from
    the first octet. Users may be added while it runs.

    Attributes:
        certificate: what it shows; by default one that `authority` issued for loopback.
        token_key: where set, OAUTHBEARER and XOAUTH2 take JSON web tokens signed with it (HS256).
        client_certificates: whether EXTERNAL takes certificates of `authority`, by their common names.
        lmtp_port: where it speaks LMTP, with `lmtp`; users are then known by what stands before the @.
        lmtp_socket: its Unix socket for the same.
        log: its log file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        authority: LocalAuthority | None = None,
        certificate: ServerCertificate | None = None,
        lock_session: bool = True,
        token_key: bytes = b"",
        client_certificates: bool = False,
        lmtp: bool = False,
    ) -> None:
        self._program = require("dovecot")
        require("pop3-login")
        if (token_key or client_certificates) and _version(self._program) >= (2, 4):
            unavailable("dovecot 2.3, whose settings for tokens and certificates these are")
        if lmtp:
            require("lmtp")
        self.authority = authority or LocalAuthority()
        self.certificate = certificate or self.authority.good()
        self.port = free_port()
        self.tls_port = free_port()
        self.lmtp_port = free_port() if lmtp else 0
        self.log = folder / "dovecot.log"
        self._folder = folder
        self._lock_session = lock_session
        self._token_key = token_key
        self._client_certificates = client_certificates
        self._users = folder / "users"
        self._arrivals = itertools.count(_FIRST_ARRIVAL)
        # A short path too: those of Unix sockets end at 108 octets.
        self._own_folder = Path(tempfile.mkdtemp(prefix="dovecot-"))
        self._own_folder.chmod(0o755)
        self.lmtp_socket = self._own_folder / "lmtp"
        self._child: Child | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._users.touch(mode=0o600)

    # --- users and mail -------------------------------------------------------

    def add_user(self, name: str, password: str, messages: Iterable[bytes] = ()) -> None:
        """Add a user with mail."""
        with self._users.open("a", encoding="utf-8") as users:
            users.write(f"{name}:{{PLAIN}}{password}\n")
        maildir = self.maildir_of(name)
        for part in ("tmp", "new", "cur"):
            (maildir / part).mkdir(parents=True)
        for path in (maildir.parent.parent, maildir.parent, maildir, *maildir.iterdir()):
            os.chown(path, *_mail_owner())
        for content in messages:
            self.add_message(name, content)

    def add_message(self, name: str, content: bytes) -> None:
        """Let a message arrive; the file holds these octets."""
        # Dovecot numbers new mail in the order of file names.
        unique = f"{next(self._arrivals)}.test"
        partial = self.maildir_of(name) / "tmp" / unique
        partial.write_bytes(content)
        partial.chmod(0o644)
        partial.rename(self.maildir_of(name) / "new" / unique)

    def messages_left(self, name: str) -> list[bytes]:
        """Return the messages in a user's Maildir, oldest first."""
        paths = [path for part in ("new", "cur") for path in (self.maildir_of(name) / part).iterdir()]
        return [path.read_bytes() for path in sorted(paths, key=lambda path: path.name)]

    def maildir_of(self, name: str) -> Path:
        """Return where a user's Maildir lies."""
        return self._own_folder / "mail" / name / "Maildir"

    # --- the process ------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The master's process id."""
        assert self._child is not None, "not started"
        return self._child.pid

    def start(self) -> None:
        """Start it and wait until both ports answer.

        Raises:
            RuntimeError: it did not start; its output is in the text.
        """
        self.certificate.write(self._folder, "dovecot")
        config = self._folder / "dovecot.conf"
        config.write_text(self._config(), encoding="utf-8")
        self._child = Child([self._program, "-F", "-c", config], self._folder / "dovecot.out")
        try:
            self._child.wait_ready(lambda: greets(self.port, b"+OK"), "dovecot")
            if self.lmtp_port:
                self._child.wait_ready(lambda: greets(self.lmtp_port, b"220"), "dovecot's lmtp")
        except (RuntimeError, TimeoutError):
            self.stop()
            raise

    def stop(self) -> None:
        """End it; mail stays, and `start` goes on with it. Safe to call twice."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def close(self) -> None:
        """End it and remove its mail."""
        self.stop()
        shutil.rmtree(self._own_folder, ignore_errors=True)

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except (RuntimeError, TimeoutError):
            self.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close it."""
        self.close()

    # --- the configuration --------------------------------------------------------

    def _config(self) -> str:
        version = _version(self._program)
        specific = self._config_2_4() if version >= (2, 4) else self._config_2_3()
        requests = "restart_request_count" if version >= (2, 4) else "service_count"
        unlimited = "unlimited" if version >= (2, 4) else "0"
        return f"""{_version_lines(version)}
base_dir = {self._own_folder}/run
state_dir = {self._own_folder}/state
log_path = {self.log}
protocols = pop3{" lmtp" * bool(self.lmtp_port)}
listen = 127.0.0.1
{_process_users()}
default_process_limit = {_SESSIONS}
default_client_limit = {_SESSIONS * 4}
first_valid_uid = 0
first_valid_gid = 0
auth_mechanisms = {self._mechanisms()}
auth_failure_delay = 0
mail_max_userip_connections = {_SESSIONS}
pop3_lock_session = {"yes" if self._lock_session else "no"}
ssl = yes
{specific}
service pop3-login {{
  chroot =
  {requests} = {unlimited}
  client_limit = {_SESSIONS}
  inet_listener pop3 {{
    port = {self.port}
  }}
  inet_listener pop3s {{
    port = {self.tls_port}
    ssl = yes
  }}
}}
service pop3 {{
  process_limit = {_SESSIONS}
  {requests} = 100
}}
service auth {{
  user = {_own_name()}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
{self._lmtp(version)}"""

    def _lmtp(self, version: tuple[int, int]) -> str:
        if not self.lmtp_port:
            return ""
        local_part = "%{user | username | lower}" if version >= (2, 4) else "%Ln"
        return f"""\
auth_username_format = {local_part}
service lmtp {{
  chroot =
  inet_listener lmtp {{
    port = {self.lmtp_port}
  }}
  unix_listener {self.lmtp_socket} {{
    mode = 0666
  }}
}}
"""

    def _mechanisms(self) -> str:
        tokens = " oauthbearer xoauth2" * bool(self._token_key)
        return MECHANISMS + tokens + " external" * self._client_certificates

    def _mechanisms_of_passwords(self) -> str:
        """Keep tokens away from the passwords; but a list of mechanisms hides the users from LMTP."""
        return "" if self.lmtp_port else f"mechanisms = {MECHANISMS}"

    def _tokens_2_3(self) -> str:
        if not self._token_key:
            return ""
        keys = self._own_folder / "keys"
        key = keys / "default" / "HS256" / "default"
        key.parent.mkdir(parents=True, exist_ok=True)
        key.write_bytes(base64.b64encode(self._token_key))
        settings = self._folder / "oauth2.conf"
        settings.write_text(
            "introspection_mode = local\nusername_attribute = sub\n"
            f"local_validation_key_dict = fs:posix:prefix={keys}/\n",
            encoding="utf-8",
        )
        return f"""
passdb {{
  driver = oauth2
  mechanisms = oauthbearer xoauth2
  args = {settings}
}}"""

    def _client_certificates_2_3(self) -> str:
        if not self._client_certificates:
            return ""
        return f"""
ssl_ca = <{self.authority.write_ca(self._folder)}
ssl_require_crl = no
ssl_verify_client_cert = yes
auth_ssl_username_from_cert = yes
ssl_cert_username_field = commonName
passdb {{
  driver = static
  mechanisms = external
  args = nopassword
}}"""

    def _config_2_3(self) -> str:
        uid, gid = _mail_owner()
        return f"""\
{self._client_certificates_2_3()}{self._tokens_2_3()}
disable_plaintext_auth = no
mail_location = maildir:{self._own_folder}/mail/%u/Maildir
ssl_cert = <{self._folder}/dovecot.crt
ssl_key = <{self._folder}/dovecot.key
passdb {{
  driver = passwd-file
  {self._mechanisms_of_passwords()}
  args = scheme=PLAIN username_format=%u {self._users}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={self._own_folder}/mail/%u
}}"""

    def _config_2_4(self) -> str:
        uid, gid = _mail_owner()
        return f"""\
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = {self._own_folder}/mail/%{{user}}/Maildir
ssl_server_cert_file = {self._folder}/dovecot.crt
ssl_server_key_file = {self._folder}/dovecot.key
passdb passwd-file {{
  passwd_file_path = {self._users}
}}
userdb static {{
  fields {{
    uid = {uid}
    gid = {gid}
    home = {self._own_folder}/mail/%{{user}}
  }}
}}"""


def _version(program: str) -> tuple[int, int]:
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=10)
    major, minor = answer.stdout.split(".")[:2]
    return int(major), int(minor)


def _version_lines(version: tuple[int, int]) -> str:
    if version < (2, 4):
        return "# Dovecot 2.3"
    return "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0"


def _mail_owner() -> tuple[int, int]:
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid
    return os.geteuid(), os.getegid()


def _own_name() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _process_users() -> str:
    """Return who runs what; as root, the package's own users, since logins must not run as root."""
    if os.geteuid() == 0:
        return "default_internal_user = dovecot\ndefault_login_user = dovenull"
    group = grp.getgrgid(os.getegid()).gr_name
    return (
        f"default_internal_user = {_own_name()}\ndefault_internal_group = {group}\n"
        f"default_login_user = {_own_name()}"
    )
