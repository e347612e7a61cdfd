"""What was measured, as it lies in the JSON file; written after each workload, so that a run can be resumed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Fate, Spread, spread_of


@dataclass(frozen=True, slots=True)
class Measured:
    """One run, or why it does not count: then `failure` is set.

    Attributes:
        figure: in the workload's unit.
        whole_seconds: from the start of the first process to the end of the last.
        processor_seconds: without the start of a daemon.
        peak_kilobytes: of all processes together.
    """

    figure: float = 0.0
    seconds: float = 0.0
    whole_seconds: float = 0.0
    processor_seconds: float = 0.0
    peak_kilobytes: int = 0
    fate: Fate = field(default_factory=Fate)
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """All runs of one contender in one workload; `messages` were relayed or `maildrops` polled in each run."""

    contender: str
    messages: int
    maildrops: int
    processes: int
    runs: tuple[Measured, ...]

    @property
    def good(self) -> list[Measured]:
        """The runs that came to their end."""
        return [run for run in self.runs if not run.failure]

    @property
    def spread(self) -> Spread | None:
        """The figures; None if there are none."""
        figures = [run.figure for run in self.good]
        return spread_of(figures) if figures else None

    @property
    def flaws(self) -> list[str]:
        """What went wrong with mail or processes, in words."""
        words = sorted({run.failure for run in self.runs if run.failure})
        for name in ("lost", "doubled", "altered", "strange"):
            count = sum(getattr(run.fate, name) for run in self.runs)
            words += [f"{count} {name}"] if count else []
        return words


@dataclass(frozen=True, slots=True)
class Chapter:
    """One workload; `load` is what was in the maildrops, in words."""

    key: str
    title: str
    unit: str
    far: bool
    lines: tuple[Line, ...]

    def line(self, contender: str) -> Line | None:
        """Return a contender's line."""
        return next((line for line in self.lines if line.contender == contender), None)


@dataclass(frozen=True, slots=True)
class Book:
    """A whole measurement; `about` says when, where, with which versions."""

    about: dict[str, str]
    chapters: tuple[Chapter, ...] = ()

    def with_chapter(self, chapter: Chapter) -> Book:
        """Return the book with a chapter more, in place of one with the same key."""
        others = [each for each in self.chapters if each.key != chapter.key]
        return Book(self.about, tuple(sorted([*others, chapter], key=lambda each: each.key)))


def save(book: Book, path: Path) -> None:
    """Write a book; a crash leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(book), indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def load(path: Path) -> Book:
    """Read a book.

    Raises:
        ValueError, KeyError, TypeError: it is none of ours.
    """
    words: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return Book(words["about"], tuple(_chapter(each) for each in words["chapters"]))


def _chapter(words: dict[str, Any]) -> Chapter:
    return Chapter(**words | {"lines": tuple(_line(each) for each in words["lines"])})


def _line(words: dict[str, Any]) -> Line:
    return Line(**words | {"runs": tuple(_measured(each) for each in words["runs"])})


def _measured(words: dict[str, Any]) -> Measured:
    return Measured(**words | {"fate": Fate(**words["fate"])})


def sources(book: Book) -> Sequence[str]:
    """Return the facts about a measurement as lines of text."""
    return [f"{name}: {value}" for name, value in book.about.items()]
