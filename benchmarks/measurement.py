"""The whole measurement, workload by workload."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.catalogue import CONTENDERS, WORKLOADS
from benchmarks.contenders.base import RunFailedError
from benchmarks.report import figure_text, markdown
from benchmarks.results import Book, Chapter, Line, Measured, save
from benchmarks.runs import Rig
from benchmarks.schedule import Entry, Wish, entries, interleaved
from benchmarks.site import Site
from benchmarks.workloads import Workload


def measure(book: Book, wish: Wish, output: Path, *, show: bool) -> Book:
    """Measure what is wished for; after each workload the files in `output` are written anew."""
    # Not below the repository: as root Dovecot reads mail as another user.
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with Site(Path(folder)) as site:
            rig = Rig(site, brief=wish.brief)
            for key in wish.workloads:
                chapter = _chapter(rig, WORKLOADS[key], wish)
                book = book.with_chapter(chapter)
                save(book, output / "results.json")
                (output / "results.md").write_text(markdown(book), encoding="utf-8")
                if show:
                    print(markdown(Book({}, (chapter,))), flush=True)
    return book


def _chapter(rig: Rig, workload: Workload, wish: Wish) -> Chapter:
    plan = entries(workload, wish)
    runs: dict[str, list[Measured]] = {entry.contender: [] for entry in plan}
    for entry in interleaved(plan):
        measured = _measured(rig, workload, entry)
        runs[entry.contender].append(measured)
        told = measured.failure or f"{figure_text(measured.figure)} {workload.unit}"
        print(f"bench: {workload.key} {entry.contender}: {told}", file=sys.stderr, flush=True)
    lines = tuple(_line(entry, runs[entry.contender]) for entry in plan)
    return Chapter(workload.key, workload.title, workload.unit, workload.far, lines)


def _line(entry: Entry, runs: list[Measured]) -> Line:
    load = entry.load
    processes = min(entry.trial.processes, load.maildrops)
    return Line(entry.contender, load.to_relay, load.maildrops, processes, tuple(runs))


def _measured(rig: Rig, workload: Workload, entry: Entry) -> Measured:
    contender = CONTENDERS[entry.contender]
    try:
        run = rig.run(workload, entry.load, entry.trial, contender)
    except RunFailedError as error:
        return Measured(failure=str(error).strip())
    used, fate = run.used, run.fate
    return Measured(
        figure=workload.figure(entry.load, run.seconds),
        seconds=run.seconds,
        whole_seconds=used.seconds,
        processor_seconds=max(0.0, used.processor_seconds - run.start_processor_seconds),
        peak_kilobytes=used.peak_kilobytes,
        fate=fate,
        # Who does less has no rate.
        failure=f"{fate.lost} of {entry.load.to_relay} did not arrive" if fate.lost else "",
    )
