"""A private Exim: a real server that keeps mail for some domains and sends it when asked with ETRN.

It is unpacked, not installed (`tests/fetch-exim.sh`): as packages, Exim and Postfix exclude each
other. Debian's is built for a user of its own name, who need not exist: libnss-wrapper shows Exim a
list of users with one. It has its own spool and log, listens on loopback, and sends nowhere else.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from support.processes import START_SECONDS, Child, free_port, greets, unavailable, wait_until

_UNPACKED = Path(__file__).resolve().parents[2] / "build" / "exim"
_USER = "Debian-exim"
_SPARE_ID = 61234
"""For Exim's processes where the tests run as root: Exim insists on another user for its own."""
_KEPT = "LD_LIBRARY_PATH : LD_PRELOAD : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP"

# docs/etrn.md shows the same two pieces: an address from outside is tainted, and must come back out
# of a list of our own before it may be an argument; a refusal is 458 unless the message says 459.
_ETRN_COMMAND = (
    "{program} -C {config} -Rf "
    "${{lookup{{${{sg{{$domain}}{{^[@#]}}{{}}}}}}lsearch,ret=key{{{domains}}}{{$value}}{{none.invalid}}}}"
)
_CONFIG = """\
{settings}

begin acl
everybody:
  accept
etrn_for_listed:
  accept condition = ${{lookup{{${{sg{{$smtp_command_argument}}{{^[@\\#]}}{{}}}}}}lsearch{{{domains}}}{{yes}}{{no}}}}
  deny message = 459 Node not allowed

begin routers
held:
  driver = manualroute
  domains = lsearch;{domains}
  route_list = * 127.0.0.1
  self = send
  transport = out

begin transports
out:
  driver = smtp
  port = {deliver_to}
  allow_localhost

begin retry
* * F,1d,1h
"""


class PrivateExim:
    """An Exim that takes mail for `domains` on `port` and tries to send it to `deliver_to` on loopback.

    What cannot be sent at once stays in its queue for an hour, unless ETRN asks for it:
    250 for the domains, with or without `@` or `#`, 459 for all others. `settings` are
    added to its configuration's main part; None takes one away.

    Attributes:
        log: its main log.
    """

    def __init__(
        self,
        folder: Path,
        *,
        domains: Sequence[str] = ("example.org",),
        deliver_to: int = 9,
        settings: Mapping[str, str | None] | None = None,
    ) -> None:
        unpacked = _UNPACKED / "usr" / "sbin" / "exim4"
        if not unpacked.exists():
            unavailable("exim4 is not unpacked: run tests/fetch-exim.sh")
        self.port = free_port()
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # Exim's user must reach it all, and pytest's folders are ours alone.
        self._own_folder = Path(tempfile.mkdtemp(prefix="exim-"))
        self._own_folder.chmod(0o755)
        self._id = os.geteuid() or _SPARE_ID
        self._program = self._own_folder / "exim4"
        shutil.copy(unpacked, self._program)
        self._libraries = self._own_folder / "lib"
        self._libraries.mkdir()
        for library in _UNPACKED.glob("usr/lib/*/lib*.so*"):
            shutil.copy(library, self._libraries)
        self._write(domains, deliver_to, settings or {})
        self.log = self._own_folder / "log" / "mainlog"
        self._child: Child | None = None

    # --- what it holds ------------------------------------------------------------

    def queued(self) -> int:
        """Return how many messages are in its queue."""
        return len(list((self._own_folder / "spool" / "input").glob("*-H")))

    def wait_queue(self, count: int, seconds: float = START_SECONDS) -> None:
        """Wait until so many messages are in its queue; TimeoutError if that does not come to pass."""
        wait_until(lambda: self.queued() == count, f"{count} messages in Exim's queue", seconds)

    def wait_log(self, words: str, count: int = 1, seconds: float = START_SECONDS) -> None:
        """Wait until words stand in the log so often; TimeoutError if they do not."""
        wait_until(lambda: self._log_text().count(words) >= count, f"{words!r} in Exim's log", seconds)

    def _log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    # --- the process ----------------------------------------------------------------

    def start(self) -> None:
        """Start it and wait until the port answers.

        Raises:
            RuntimeError: it ended instead.
            TimeoutError: it took too long.
        """
        command: list[str | Path] = [self._program, "-C", self._own_folder / "exim.conf", "-bdf"]
        self._child = Child(command, self._folder / "exim.out", env=self._environment())
        try:
            self._child.wait_ready(lambda: greets(self.port, b"220"), "exim")
        except (RuntimeError, TimeoutError):
            self.close()
            raise

    def close(self) -> None:
        """End it and remove its folders; safe to call twice."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        shutil.rmtree(self._own_folder, ignore_errors=True)

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close it."""
        self.close()

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.defpath,
            "LD_LIBRARY_PATH": str(self._libraries),
            "LD_PRELOAD": str(self._libraries / "libnss_wrapper.so"),
            "NSS_WRAPPER_PASSWD": str(self._own_folder / "passwd"),
            "NSS_WRAPPER_GROUP": str(self._own_folder / "group"),
        }

    # --- the configuration -------------------------------------------------------------

    def _write(self, domains: Sequence[str], deliver_to: int, settings: Mapping[str, str | None]) -> None:
        own = self._own_folder
        for name in ("spool", "log"):
            (own / name).mkdir()
            os.chown(own / name, self._id, -1)
        others = ("passwd", f"{_USER}:x:{self._id}:{self._id}::/:/usr/sbin/nologin\n")
        for name, entry in (others, ("group", f"{_USER}:x:{self._id}:\n")):
            known = Path("/etc", name).read_text(encoding="utf-8", errors="replace")
            (own / name).write_text(known + entry, encoding="utf-8")
        (own / "domains").write_text("".join(f"{domain}\n" for domain in domains), encoding="utf-8")
        main = self._main_settings() | dict(settings)
        lines = "\n".join(f"{name} = {value}" for name, value in main.items() if value is not None)
        text = _CONFIG.format(settings=lines, domains=own / "domains", deliver_to=deliver_to)
        (own / "exim.conf").write_text(text, encoding="utf-8")

    def _main_settings(self) -> dict[str, str | None]:
        own = self._own_folder
        command = _ETRN_COMMAND.format(
            program=self._program, config=own / "exim.conf", domains=own / "domains"
        )
        return {
            "primary_hostname": "exim.test.example.org",
            "spool_directory": str(own / "spool"),
            "log_file_path": f"{own}/log/%slog",
            "pid_file_path": str(own / "exim.pid"),
            "exim_path": str(self._program),
            "keep_environment": _KEPT,
            "local_interfaces": f"<; 127.0.0.1.{self.port}",
            "deliver_drop_privilege": "true",
            "host_lookup": "",
            "rfc1413_query_timeout": "0s",
            "tls_advertise_hosts": "",
            "smtp_accept_max_per_connection": "1000",
            "acl_smtp_rcpt": "everybody",
            "acl_smtp_etrn": "etrn_for_listed",
            "smtp_etrn_command": command,
        }
