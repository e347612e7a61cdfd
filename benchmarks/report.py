"""A measurement as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.aims import Verdict, verdicts
from benchmarks.figures import spread_of
from benchmarks.results import Book, Chapter, Line, sources

_HEAD = "| contender | {unit} | from-to | runs of | processor per {thing} | peak memory | mail |"
_RULE = "|---|---|---|---|---|---|---|"


def markdown(book: Book) -> str:
    """Return the whole measurement."""
    lines = [*(f"- {fact}" for fact in sources(book)), ""]
    for chapter in book.chapters:
        lines += [*_chapter(chapter), ""]
    return "\n".join(lines)


def _chapter(chapter: Chapter) -> Iterator[str]:
    yield f"### {chapter.key}: {chapter.title}"
    yield ""
    yield _HEAD.format(unit=chapter.unit, thing=_thing(chapter))
    yield _RULE
    for line in chapter.lines:
        yield _row(chapter, line)
    found = verdicts(chapter)
    if found:
        yield ""
    for verdict in found:
        yield f"- {_judgement(verdict)}"


def _row(chapter: Chapter, line: Line) -> str:
    spread = line.spread
    cells = [line.contender, *([""] * 5), _flaws(line)]
    if spread is not None:
        processor = spread_of([run.processor_seconds for run in line.good]).middle
        peak = spread_of([run.peak_kilobytes / 1024 for run in line.good]).middle
        cells[1] = f"**{figure_text(spread.middle)}**"
        cells[2] = f"{figure_text(spread.least)} - {figure_text(spread.most)}"
        cells[3] = f"{len(line.good)} x {_amount(chapter, line)}"
        cells[4] = f"{_micro(processor / _things(chapter, line))}"
        cells[5] = f"{peak:,.0f} MB"
    return "| " + " | ".join(cells) + " |"


def _flaws(line: Line) -> str:
    return "; ".join(word.replace("|", "/").replace("\n", " ")[:200] for word in line.flaws) or "whole"


def _thing(chapter: Chapter) -> str:
    return "maildrop" if chapter.unit == "maildrops/s" else "message"


def _things(chapter: Chapter, line: Line) -> int:
    return max(1, line.maildrops if _thing(chapter) == "maildrop" else line.messages)


def _amount(chapter: Chapter, line: Line) -> str:
    processes = f", {line.processes} processes" if line.processes > 1 else ""
    return f"{_things(chapter, line):,}{processes}"


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} us" if seconds < 0.01 else f"{seconds * 1e3:,.0f} ms"


def _judgement(verdict: Verdict) -> str:
    aim = verdict.aim
    word = "met" if verdict.met else "**missed**"
    return f"{aim.ours} : {verdict.rival} = {verdict.reached:.2f}, aim {aim.factor:.2f}: {word}"


def figure_text(figure: float) -> str:
    """Return a figure with as many digits as it is worth."""
    if figure >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"
