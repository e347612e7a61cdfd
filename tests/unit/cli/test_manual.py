"""The manual page in docs/ is the one that the commands make of themselves."""

from __future__ import annotations

from pathlib import Path

from mailferry.cli.manual import manual_page

PAGE = Path(__file__).parents[3] / "docs" / "man" / "mailferry.1"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == manual_page(), "python -m mailferry.cli.manual > docs/man/mailferry.1"


def test_it_names_commands_arguments_and_options() -> None:
    page = manual_page()
    assert "\n.SS mailferry quarantine list [options]\n" in page
    assert "\n.SS mailferry etrn NAME [NODE...] [options]\n" in page
    assert "\n.B \\-\\-config, \\-c FILE\n" in page


def test_no_line_of_text_is_taken_for_a_request_of_troff() -> None:
    requests = {line.split()[0] for line in manual_page().splitlines() if line.startswith((".", "'"))}
    assert requests <= {'.\\"', ".TH", ".SH", ".SS", ".TP", ".B", ".BR", ".I", ".RI", ".PP", ".sp"}
