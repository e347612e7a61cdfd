"""The small C programs of the benchmark, compiled when they are first asked for."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "c"
ROOT = SOURCES.parents[1]
_BUILT = ROOT / "build" / "bench"
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread")
_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"


class MissingToolError(Exception):
    """A program that the benchmark cannot do without is not installed."""


def found(program: str) -> str | None:
    """Return where a program is, or None."""
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", os.defpath), _SYSTEM_FOLDERS)))


def tool(name: str) -> str:
    """Return the path of one of our C programs, compiled unless that was done before.

    Raises:
        MissingToolError: there is no C compiler.
        subprocess.CalledProcessError: it does not compile; what the compiler says is on stderr.
    """
    source = SOURCES / f"{name}.c"
    built = _BUILT / f"{name}-{_digest(source)}"
    if not built.exists():
        _compile(source, built)
    return str(built)


def _digest(source: Path) -> str:
    """Return a short digest of all that a program is made from, so that none is taken for another."""
    made_from = hashlib.sha256(" ".join(_FLAGS).encode("ascii"))
    for path in (source, *sorted(SOURCES.glob("*.h"))):
        made_from.update(path.read_bytes())
    return made_from.hexdigest()[:12]


def _compile(source: Path, built: Path) -> None:
    compiler = found("cc") or found("gcc")
    if compiler is None:
        raise MissingToolError("a C compiler is needed: as root, type apt-get install gcc libc6-dev")
    built.parent.mkdir(parents=True, exist_ok=True)
    partial = built.with_suffix(f".{os.getpid()}")  # two benchmarks may compile side by side
    subprocess.run([compiler, *_FLAGS, "-o", str(partial), str(source)], check=True, timeout=120)
    partial.replace(built)
