"""A real systemd that boots in namespaces of its own, with mailferry's unit installed in it.

It shares the network with the test, so that servers of the test can be reached, and nothing
else: files that it writes lie in memory, its processes end with it. It needs root, the
distribution's systemd and a cgroup v2; `why_not` says what is missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

_SCRIPT = Path(__file__).with_suffix(".sh")
_SOURCE = Path(__file__).resolve().parents[2] / "daemon"
_PROGRAMS = ("unshare", "nsenter", "systemctl", "journalctl")
_SYSTEMD = Path("/lib/systemd/systemd")
# The distribution's: one in somebody's home is not for the service's user to read.
_PYTHON = Path(f"/usr/bin/python3.{sys.version_info.minor}")


def why_not() -> str:
    """Return why no systemd can be booted here; empty when one can."""
    if os.getuid() != 0:
        return "only root may boot a systemd of its own"
    missing = [name for name in (*_PROGRAMS, str(_SYSTEMD), str(_PYTHON)) if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    cgroup = _cgroup_folder()
    if cgroup is None or not os.access(cgroup, os.W_OK):
        return "no cgroup v2 that can be written"
    tried = subprocess.run(
        ["unshare", "--pid", "--mount", "--fork", "true"], capture_output=True, check=False
    )
    return "" if tried.returncode == 0 else "the kernel allows no namespaces here"


def _cgroup_folder() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    return None


class SystemdBox:
    """A booted systemd; `share` is its folder /box."""

    def __init__(self, folder: Path) -> None:
        self.share = folder / "share"
        self.share.mkdir(mode=0o755)
        (folder / "memory").mkdir()
        for parent in (folder, *folder.parents[:2]):
            with contextlib.suppress(OSError):
                parent.chmod(0o755)
        self._log = folder / "systemd.log"
        base = _cgroup_folder()
        assert base is not None
        self._cgroup = base / f"mailferry-test-{os.getpid()}-{folder.name}"
        self._cgroup.mkdir()
        command = [
            "unshare",
            "--pid",
            "--mount",
            "--uts",
            "--ipc",
            "--cgroup",
            "--fork",
            "--kill-child",
            "bash",
        ]
        arguments = [_SCRIPT, folder, _PYTHON, sysconfig.get_path("purelib"), _SOURCE]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=self._enter_cgroup,  # noqa: PLW1509 - before the namespace of cgroups is made
            )
        try:
            self._wait_booted()
        except BaseException:
            self.close()
            raise

    def _enter_cgroup(self) -> None:
        (self._cgroup / "cgroup.procs").write_text(str(os.getpid()))

    def _wait_booted(self) -> None:
        self.wait_for(lambda: self.systemctl("is-active", "box.target").returncode == 0, "boot", 30.0)

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        """Wait until something holds.

        Raises:
            AssertionError: it did not in time.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError(f"no {what} within {seconds} s:\n{self._words()}")
            time.sleep(0.05)

    def _words(self) -> str:
        journal = self.run("journalctl", "--no-pager", "-n", "60").stdout
        return self._log.read_text(errors="replace")[-3000:] + journal

    def run(self, *command: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        inside = ["nsenter", "-t", str(self._init()), "-m", "-p", "-u", "-i", "-C", "-r", "-w"]
        return subprocess.run(
            [*inside, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_PAGER=", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def _init(self) -> int:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0]) if children else self._process.pid

    def systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run systemctl."""
        return self.run("systemctl", *arguments)

    def facts(self, *names: str) -> dict[str, str]:
        """Return properties of the service."""
        shown = self.systemctl("show", "mailferry", *(f"--property={name}" for name in names)).stdout
        return dict(line.partition("=")[::2] for line in shown.splitlines())

    def journal(self) -> list[dict[str, Any]]:
        """Return the service's lines, with the journal's own fields."""
        lines = self.run("journalctl", "-u", "mailferry", "-o", "json", "--no-pager").stdout.splitlines()
        return [json.loads(line) for line in lines]

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside; parents are made."""
        source = self.share / "to-install"
        source.write_text(text)
        done = self.run("install", "-D", "-m", f"{mode:o}", "/box/to-install", path)
        assert done.returncode == 0, done.stderr

    def close(self) -> None:
        """End everything inside at once."""
        with contextlib.suppress(OSError, ValueError):
            init = self._init()
            if init != self._process.pid:
                os.kill(init, 9)
        self._process.kill()
        self._process.wait(10)
        _remove_cgroup(self._cgroup)

    def __enter__(self) -> Self:
        """Booted already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""
        self.close()


def _remove_cgroup(folder: Path) -> None:
    deadline = time.monotonic() + 5
    folders: Sequence[Path] = sorted((each for each in folder.rglob("*") if each.is_dir()), reverse=True)
    for each in (*folders, folder):
        while True:
            try:
                each.rmdir()
                break
            except OSError:  # its processes are still being buried
                if time.monotonic() > deadline:
                    return
                time.sleep(0.05)
