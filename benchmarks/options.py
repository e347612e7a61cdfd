"""The command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from pathlib import Path

from benchmarks.tools import ROOT

OUTPUT = ROOT / "build" / "bench" / "results"
_SMOKE_SCALE = 0.002


def parse(
    words: list[str] | None, workloads: Collection[str], contenders: Collection[str]
) -> argparse.Namespace:
    """Take apart the command line; ends the process when it makes no sense."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure ours, the peers and a floor.")
    add = parser.add_argument
    add("--only", type=_listed(workloads), default=list(workloads), help="workloads, as A,C")
    add("--contenders", type=_listed(contenders), default=list(contenders), help="as ours,fetchmail")
    add("--scale", type=float, default=1.0, help="a factor for the amounts of mail")
    add("--repetitions", type=int, default=0, help="of each run; 0: as it is wise for each")
    add("--output", type=Path, default=OUTPUT, help="folder for results.json and results.md")
    add("--resume", action="store_true", help="keep what results.json has, measure the rest")
    add("--strict", action="store_true", help="fail when a run failed or mail was harmed")
    add("--smoke", action="store_true", help="hardly any mail, each run once, fewer variants, and --strict")
    options = parser.parse_args(words)
    if options.smoke:
        options.scale, options.repetitions, options.strict = _SMOKE_SCALE, 1, True
        options.output = OUTPUT.with_name("smoke")
    return options


def _listed(known: Collection[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
        return chosen

    return names
