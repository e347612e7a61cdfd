from __future__ import annotations

import json
import sys

from mailferry.cli.screen import print_json, screen, table

HOSTILE = "[bold]x[/] :smile: \x1b[31m \x9b31m \u202eabc \u2028 \ud800 Отчёт"


def test_json_says_exactly_what_was_meant_and_steers_nothing(capsys) -> None:
    print_json({"subject": HOSTILE})
    text = capsys.readouterr().out
    assert json.loads(text) == {"subject": HOSTILE}
    assert "Отчёт" in text
    assert all(character.isprintable() or character == "\n" for character in text)


def test_nan_is_no_json(capsys) -> None:
    try:
        print_json(float("nan"))
    except ValueError:
        return
    raise AssertionError(capsys.readouterr().out)


def test_text_is_not_taken_for_markup(capsys) -> None:
    shown = table(("subject",))
    shown.add_row("[bold]x[/bold] :smile: [link=http://example.org]y")
    screen().print(shown)
    assert "[bold]x[/bold] :smile: [link=http://example.org]y" in capsys.readouterr().out


def test_a_pipe_gets_wide_tables_unless_told_otherwise(monkeypatch) -> None:
    monkeypatch.delenv("COLUMNS")
    assert screen().width == 200
    monkeypatch.setenv("COLUMNS", "90")
    assert screen().width == 90
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert screen().width == 80


def test_numbers_stand_on_the_right() -> None:
    made = table(("name", "count"), numbers=("count",))
    assert [column.justify for column in made.columns] == ["left", "right"]
