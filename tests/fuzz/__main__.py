"""Fuzz with coverage as the guide; `make fuzz` calls this.

usage: python -m fuzz [--seconds N] [--folder DIR] [NAME ...]     fuzz these (all), one after the other
       python -m fuzz replay NAME FILE ...                        try inputs again, with a traceback
       python -m fuzz distil NAME [FOLDER]                        print the inputs that cover what the folder's do

Each harness runs in a process of its own, since libFuzzer ends the one it is in.
What it learns stays in `var/fuzz/NAME`, and what it finds in `var/fuzz/findings`.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from fuzz.registry import NAMES, load

_FOLDER = Path("var/fuzz")
_SECONDS_PER_INPUT = 20
_MEMORY_MB = 1024


@dataclass(frozen=True)
class Report:
    """What one run brought."""

    name: str
    executions: str
    edges: str
    corpus: str
    finding: str

    def __str__(self) -> str:
        verdict = self.finding or "no finding"
        return f"{self.name:<10} {self.executions:>10} inputs  {self.edges:>5} edges  {self.corpus:>5} kept  {verdict}"


def main(arguments: Sequence[str]) -> int:
    """Run what the command line says; 1 when something was found."""
    match list(arguments):
        case ["target", name, *options]:
            return _target(name, options)
        case ["replay", name, *files]:
            return _replay(name, [Path(file) for file in files])
        case ["distil", name, *folders]:
            return _distil(name, Path(folders[0]) if folders else _FOLDER / name)
        case _:
            return _fuzz_all(arguments)


def _fuzz_all(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", usage=(__doc__ or "").partition("usage: ")[2])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=_FOLDER)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no harness {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    reports = []
    for name in options.names or NAMES:
        reports.append(_fuzz(name, options.seconds, options.folder))
        print(reports[-1], flush=True)
    return 1 if any(report.finding for report in reports) else 0


def _fuzz(name: str, seconds: int, folder: Path) -> Report:
    harness = load(name)
    learned, findings = folder / name, folder / "findings"
    learned.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        seeds, words = Path(temporary) / "seeds", Path(temporary) / "words"
        seeds.mkdir()
        for number, data in enumerate(harness.corpus()):
            (seeds / f"{number:04}").write_bytes(data)
        words.write_text("".join(f'"{_escaped(token)}"\n' for token in harness.tokens), "ascii")
        log = (folder / f"{name}.log").open("wb")
        with log:
            result = subprocess.run(
                [
                    sys.executable, "-m", "fuzz", "target", name, f"-max_total_time={seconds}", f"-max_len={harness.max_octets}",
                    f"-timeout={_SECONDS_PER_INPUT}", f"-rss_limit_mb={_MEMORY_MB}", f"-dict={words}", "-print_final_stats=1",
                    f"-artifact_prefix={findings / name}-", str(learned), str(seeds),
                ],
                stdout=log, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
    return _report(name, (folder / f"{name}.log").read_text("utf-8", "replace"), result.returncode)


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in token)


def _report(name: str, log: str, status: int) -> Report:
    last = {
        key: found[-1] if (found := re.findall(pattern, log)) else "?" for key, pattern in _FIGURES.items()
    }
    finding = ""
    if status:
        where = re.findall(r"Test unit written to (\S+)", log)
        finding = f"FOUND: {where[-1]}" if where else f"FAILED with status {status}; see the log"
    return Report(name, last["executions"], last["edges"], last["corpus"], finding)


_FIGURES = {
    "executions": r"stat::number_of_executed_units: (\d+)",
    "edges": r" cov: (\d+)",
    "corpus": r" corp: (\d+)/",
}


def _target(name: str, options: Sequence[str]) -> int:
    """Be the process that fuzzes; does not return."""
    try:
        import atheris  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415  (installed by `make fuzz` only)
    except ImportError:
        sys.exit("atheris is missing: type make fuzz")
    with atheris.instrument_imports(include=["mailferry"]):
        harness = load(name)
    atheris.Setup([sys.argv[0], *options], harness.check)
    atheris.Fuzz()
    return 0


def _replay(name: str, files: Sequence[Path]) -> int:
    harness = load(name)
    for file in files:
        data = file.read_bytes()
        print(ascii(data), flush=True)
        harness.check(data)
    return 0


# -- the corpus that is kept ---------------------------------------------------


def _distil(name: str, folder: Path) -> int:
    """Print the smallest inputs that together run every line-to-line step that the folder's run."""
    harness = load(name)
    kept = harness.corpus()
    known: set[object] = set()
    for data in kept:
        known |= _steps(harness.check, data)
    for path in sorted(folder.iterdir(), key=lambda path: (path.stat().st_size, path.name)):
        data = path.read_bytes()
        steps = _steps(harness.check, data) - known
        if steps and ast.literal_eval(ascii(data)) == data:
            known |= steps
            print(ascii(data))
    return 0


def _steps(check: Callable[[bytes], None], data: bytes) -> set[object]:
    """Return the steps from line to line within mailferry."""
    seen: set[object] = set()
    home = f"{os.sep}mailferry{os.sep}"

    def trace(frame: FrameType, event: str, argument: object) -> Any:  # Any: what sys.settrace wants
        code = frame.f_code
        if home not in code.co_filename:
            return None
        before = 0

        def step(inner: FrameType, event: str, argument: object) -> Any:
            nonlocal before
            if event == "line":
                seen.add((code, before, inner.f_lineno))
                before = inner.f_lineno
            return step

        return step

    sys.settrace(trace)
    try:
        check(data)
    finally:
        sys.settrace(None)
    return seen


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
