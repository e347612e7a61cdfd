"""Where and with what was measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime

from benchmarks.tools import ROOT, found

_VERSIONS = {
    "fetchmail": ("fetchmail", "--version"),
    "mpop": ("mpop", "--version"),
    "getmail": ("getmail", "--version"),
    "fdm": ("dpkg-query", "-W", "-f", "fdm ${Version}", "fdm"),
    "dovecot": ("dovecot", "--version"),
}
_ANSWER_SECONDS = 10.0
_NUMBER = re.compile(r"\d+(?:\.\d+)+")


def facts() -> dict[str, str]:
    """Return what a reader must know of a measurement."""
    load = os.getloadavg()
    return {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} processors, {_processor()}, {platform.system()} {platform.release()}",
        "load before": f"{load[0]:.2f}",
        "ours": f"{_commit()}, {_python()}",
        "versions": ", ".join(
            f"{name} {_version(words)}" for name, words in _VERSIONS.items() if found(name)
        ),
    }


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123  not a file of ours
        return next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
        )


def _python() -> str:
    """Tell whose build it is: one made without profile-guided optimisation is a quarter slower."""
    whose = "the distribution's" if sys.base_prefix == "/usr" else "built apart"
    return f"Python {platform.python_version()}, {whose}"


def _commit() -> str:
    return _answer(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]).strip() or "unknown commit"


def _version(words: tuple[str, ...]) -> str:
    # fetchmail ends with a failure when it has no configuration, after it has told its version.
    number = _NUMBER.search(_answer(words))
    return number[0] if number else "unknown"


def _answer(words: tuple[str, ...] | list[str]) -> str:
    program = found(words[0])
    if program is None:
        return ""
    answer = subprocess.run(
        [program, *words[1:]], capture_output=True, text=True, check=False, timeout=_ANSWER_SECONDS
    )
    return answer.stdout
