"""`make bench`: measure ours, the peers that are installed and a floor, side by side, and say what came of it."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from benchmarks.catalogue import CONTENDERS, WORKLOADS
from benchmarks.facts import facts
from benchmarks.measuring import RunFailedError
from benchmarks.report import figure_text, markdown
from benchmarks.results import Book, Chapter, Line, Measured, load, save
from benchmarks.runs import Rig
from benchmarks.schedule import Entry, Wish, entries, estimate, interleaved
from benchmarks.site import Site
from benchmarks.tools import ROOT, MissingToolError, found
from benchmarks.workloads import Workload

OUTPUT = ROOT / "build" / "bench" / "results"
SMOKE_SCALE = 0.002


def main(words: list[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    options = _options(words)
    present = [name for name in options.contenders if found(CONTENDERS[name].program)]
    _tell_absent(options.contenders, present)
    book = _begun(options.output, resume=options.resume)
    done = {chapter.key for chapter in book.chapters}
    keys = [key for key in options.only if key not in done]
    wish = Wish(keys, present, options.scale, options.repetitions)
    print(
        f"bench: {', '.join(keys) or 'nothing left'}; about {estimate(WORKLOADS, wish) / 60:.0f} minutes",
        flush=True,
    )
    try:
        book = measure(book, wish, options.output)
    except MissingToolError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 69
    flawed = any(line.flaws for each in book.chapters for line in each.lines)
    return 1 if options.strict and flawed else 0


def measure(book: Book, wish: Wish, output: Path) -> Book:
    """Measure workload by workload; after each one the files in `output` are written anew."""
    # Not below our own folders: as root Dovecot reads mail as another user.
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with Site(Path(folder)) as site:
            rig = Rig(site)
            for key in wish.workloads:
                book = book.with_chapter(_chapter(rig, WORKLOADS[key], wish))
                save(book, output / "results.json")
                (output / "results.md").write_text(markdown(book), encoding="utf-8")
                print(
                    markdown(Book({}, tuple(each for each in book.chapters if each.key == key))), flush=True
                )
    return book


def _chapter(rig: Rig, workload: Workload, wish: Wish) -> Chapter:
    plan = entries(workload, wish)
    runs: dict[str, list[Measured]] = {entry.contender: [] for entry in plan}
    for entry in interleaved(plan):
        measured = _measured(rig, workload, entry)
        runs[entry.contender].append(measured)
        told = measured.failure or f"{figure_text(measured.figure)} {workload.unit}"
        print(f"bench: {workload.key} {entry.contender}: {told}", file=sys.stderr, flush=True)
    lines = tuple(
        Line(
            entry.contender,
            entry.load.to_relay,
            entry.load.maildrops,
            min(entry.trial.processes, entry.load.maildrops),
            tuple(runs[entry.contender]),
        )
        for entry in plan
    )
    return Chapter(workload.key, workload.title, workload.unit, workload.far, lines)


def _measured(rig: Rig, workload: Workload, entry: Entry) -> Measured:
    try:
        run = rig.run(workload, entry.load, entry.trial, CONTENDERS[entry.contender])
    except RunFailedError as error:
        return Measured(failure=str(error).strip())
    figure = workload.figure(entry.load, run.seconds)
    used = run.used
    return Measured(figure, run.seconds, used.seconds, used.processor_seconds, used.peak_kilobytes, run.fate)


def _begun(output: Path, *, resume: bool) -> Book:
    path = output / "results.json"
    if resume and path.exists():
        return load(path)
    return Book(facts())


def _tell_absent(wanted: Collection[str], present: Collection[str]) -> None:
    absent = sorted({CONTENDERS[name].program for name in wanted if name not in present})
    if absent:
        print(f"bench: not installed, so left out: {', '.join(absent)}", flush=True)


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--only", type=_listed(WORKLOADS), default=list(WORKLOADS), help="workloads, as A,C")
    parser.add_argument(
        "--contenders", type=_listed(CONTENDERS), default=list(CONTENDERS), help="as ours,fetchmail"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="a factor for the amounts of mail")
    parser.add_argument("--repetitions", type=int, default=0, help="of each run; 0: as it is wise for each")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder for results.json and results.md")
    parser.add_argument("--resume", action="store_true", help="keep what results.json has, measure the rest")
    parser.add_argument("--smoke", action="store_true", help="hardly any mail, each run once, and --strict")
    parser.add_argument("--strict", action="store_true", help="fail when a run failed or mail was harmed")
    options = parser.parse_args(words)
    if options.smoke:
        options.scale, options.repetitions, options.strict = SMOKE_SCALE, 1, True
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


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    sys.exit(main())
