"""Books of figures: kept, read again, judged, printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.aims import verdicts
from benchmarks.contenders.base import RunFailedError
from benchmarks.contenders.ours import finished_polls, working_seconds
from benchmarks.figures import Fate
from benchmarks.report import figure_text, markdown
from benchmarks.results import Book, Chapter, Line, Measured, load, save


def _line(name: str, *figures: float, messages: int = 100) -> Line:
    runs = tuple(
        Measured(figure, 1.0, 1.5, processor_seconds=0.05, peak_kilobytes=2048) for figure in figures
    )
    return Line(name, messages, 1, 1, runs)


def _chapter(*lines: Line, key: str = "A", unit: str = "msg/s") -> Chapter:
    return Chapter(key, "one maildrop", unit, far=False, lines=lines)


def test_a_book_is_read_as_it_was_written(tmp_path: Path) -> None:
    harmed = Line("fdm", 5, 1, 2, (Measured(fate=Fate(lost=5), failure="5 of 5 did not arrive"),))
    book = Book({"measured": "today"}, (_chapter(_line("ours", 1.0, 2.0), harmed),))
    path = tmp_path / "deep" / "results.json"

    save(book, path)

    assert load(path) == book
    assert list(path.parent.iterdir()) == [path]


def test_a_workload_that_is_measured_again_replaces_its_chapter() -> None:
    old, new, other = _chapter(_line("ours", 1.0)), _chapter(_line("ours", 2.0)), _chapter(key="C")

    assert Book({}, (other, old)).with_chapter(new).chapters == (new, other)


def test_aims_are_judged_by_medians_and_against_the_best_rival() -> None:
    chapter = _chapter(
        _line("ours", 5000, 4000, 90),
        _line("fetchmail", 900),
        _line("fdm", 1000),
        _line("floor", 5000),
        key="C",
    )

    found = {verdict.rival: verdict for verdict in verdicts(chapter)}

    assert found["fdm"].reached == 4
    assert found["fdm"].met
    assert found["floor"].reached == 0.8
    assert found["floor"].met
    assert len(found) == 2, "of ours-bdat nothing was measured"


def test_less_is_better_for_seconds() -> None:
    met = verdicts(_chapter(_line("ours", 0.3), _line("floor", 0.25), key="G", unit="s"))
    missed = verdicts(_chapter(_line("ours", 0.5), _line("floor", 0.25), key="G", unit="s"))

    assert [verdict.met for verdict in met + missed] == [True, False]


def test_who_failed_is_nobodys_rival() -> None:
    failed = Line("fetchmail", 100, 1, 1, (Measured(failure="ended with 5"),))

    assert verdicts(_chapter(_line("ours", 100), failed)) == []


def test_the_report_says_figures_and_what_went_wrong() -> None:
    failed = Line(
        "fdm", 100, 1, 8, (Measured(failure="ended\nwith | 5"), Measured(fate=Fate(altered=2), figure=9.0))
    )
    text = markdown(
        Book({"measured": "today"}, (_chapter(_line("ours", 120, 100), _line("fetchmail", 10), failed),))
    )

    assert "- measured: today" in text
    assert "| ours | **110** | 100 - 120 | 2 x 100 | 500 us | 2 MB | whole |" in text
    assert "| ended with / 5; 2 altered |" in text
    assert "- ours : fetchmail = 11.00, aim 8.00: met" in text


@pytest.mark.parametrize(
    ("figure", "text"), [(12345.6, "12,346"), (99.96, "100.0"), (12.34, "12.3"), (0.256, "0.26")]
)
def test_figures_have_three_digits_or_so(figure: float, text: str) -> None:
    assert figure_text(figure) == text


def test_the_working_time_of_ours_is_from_the_first_poll_to_the_last() -> None:
    lines = [
        "mailferry says something",
        '{"ts":"2026-07-06T09:15:02.000Z","level":"info","event":"poll.finished","duration_seconds":1.5,"relayed":1}',
        '{"ts":"2026-07-06T09:15:01.000Z","level":"info","event":"poll.finished","duration_seconds":0.25,"relayed":0}',
        '{"ts":"2026-07-06T09:15:09.000Z","level":"info","event":"message.relayed"}',
        '{"ts":"2026-07-06T09:15:10.000Z","level":"info","event":"poll.finished","dura',
    ]

    assert working_seconds(lines) == pytest.approx(1.5)
    assert [poll["relayed"] for poll in finished_polls(lines)] == [1, 0]
    with pytest.raises(RunFailedError, match="no poll"):
        working_seconds(lines[:1])
