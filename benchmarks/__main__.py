"""`make bench`: measure ours, the peers that are installed and a floor, side by side, and say what came of it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Collection
from pathlib import Path
from types import FrameType

from benchmarks.catalogue import CONTENDERS, WORKLOADS
from benchmarks.facts import facts
from benchmarks.measurement import measure
from benchmarks.options import parse
from benchmarks.results import Book, load
from benchmarks.schedule import Wish, estimate
from benchmarks.tools import MissingToolError, found


def main(words: list[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    options = parse(words, list(WORKLOADS), list(CONTENDERS))
    signal.signal(signal.SIGTERM, _leave)
    present = [name for name in options.contenders if found(CONTENDERS[name].program)]
    _tell_absent(options.contenders, present)
    try:
        _require_dovecot()
        book = _begun(options.output, resume=options.resume)
        done = {chapter.key for chapter in book.chapters}
        keys = [key for key in options.only if key not in done]
        wish = Wish(keys, present, options.scale, options.repetitions, brief=options.smoke)
        minutes = estimate(WORKLOADS, wish) / 60
        print(f"bench: {', '.join(keys) or 'nothing left'}; about {minutes:.1f} minutes", flush=True)
        book = measure(book, wish, options.output, show=not options.smoke)
    except MissingToolError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 69
    return _verdict(book) if options.strict else 0


def _require_dovecot() -> None:
    if not found("dovecot"):
        raise MissingToolError("dovecot is needed: as root, type apt-get install dovecot-pop3d")


def _verdict(book: Book) -> int:
    flaws = [
        f"{chapter.key}, {line.contender}: {flaw}"
        for chapter in book.chapters
        for line in chapter.lines
        for flaw in line.flaws
    ]
    for flaw in flaws:
        print(f"bench: {flaw}", file=sys.stderr)
    print(f"bench: {'FAILED' if flaws else 'it works'}", flush=True)
    return 1 if flaws else 0


def _begun(output: Path, *, resume: bool) -> Book:
    path = output / "results.json"
    if resume and path.exists():
        return load(path)
    return Book(facts())


def _tell_absent(wanted: Collection[str], present: Collection[str]) -> None:
    absent = sorted({CONTENDERS[name].program for name in wanted if name not in present})
    if absent:
        print(f"bench: not installed, so left out: {', '.join(absent)}", flush=True)


def _leave(number: int, _frame: FrameType | None) -> None:
    """End by SIGTERM as by Ctrl-C: servers are ended, files removed."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
