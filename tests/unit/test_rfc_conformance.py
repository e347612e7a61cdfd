"""The table of RFCs names modules and tests that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES, TESTS = ROOT / "daemon" / "mailferry", ROOT / "tests"
TABLE = ROOT / "docs" / "rfc-conformance.md"
NAMES = re.compile(r"`([^`]+)`")
MODULE = re.compile(r"[a-z0-9_]+(?:/[a-z0-9_]+)+")


def rows() -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(TABLE.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("|") and not line.startswith(("|---", "| RFC |")):
            yield number, [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


ROWS = list(rows())


def is_module(name: str) -> bool:
    return (SOURCES / f"{name}.py").is_file() or (SOURCES / name).is_dir()


def test_every_row_has_the_five_cells() -> None:
    assert len(ROWS) > 80
    assert [number for number, cells in ROWS if len(cells) != 5] == []


def test_what_is_supported_has_a_module_and_a_test() -> None:
    bare = [number for number, cells in ROWS if cells[2].startswith("yes") and not (cells[3] and cells[4])]
    assert bare == []


@pytest.mark.parametrize(("number", "cells"), ROWS, ids=[f"line {number}" for number, _ in ROWS])
def test_the_modules_exist_and_have_what_is_named(number: int, cells: list[str]) -> None:
    named = NAMES.findall(cells[3])
    modules = [name for name in named if "/" in name]
    assert [name for name in modules if not is_module(name)] == []
    files = [SOURCES / f"{name}.py" for name in modules]
    source = "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
    assert [name for name in named if "/" not in name and name not in source] == []
    elsewhere = [name for name in NAMES.findall(cells[2]) if MODULE.fullmatch(name)]
    assert [name for name in elsewhere if not is_module(name)] == []


@pytest.mark.parametrize(("number", "cells"), ROWS, ids=[f"line {number}" for number, _ in ROWS])
def test_the_tests_exist(number: int, cells: list[str]) -> None:
    folder = TESTS
    for name in NAMES.findall(cells[4]):
        if "/" in name:
            folder = TESTS / Path(name).parent
        assert list(folder.glob(Path(name).name)), name
