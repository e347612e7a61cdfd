"""Every file of tests/bad_configs gives exactly the problems beside it, no more and no fewer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mailferry.errors import ConfigProblem

CORPUS = Path(__file__).parents[2] / "bad_configs"
CASES = sorted(CORPUS.glob("*.toml"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_bad_config_gives_the_problems_beside_it(
    case: Path, directory: Path, problems: Callable[..., tuple[ConfigProblem, ...]]
) -> None:
    found = [str(problem).removeprefix(str(directory)) for problem in problems(case.read_bytes())]
    expected = case.with_suffix(".expected").read_text().splitlines()
    assert len(found) == len(expected), found
    for words, problem in zip(expected, found, strict=True):
        assert words in problem


def test_the_corpus_is_complete() -> None:
    assert len(CASES) >= 30
    assert {case.stem for case in CASES} == {file.stem for file in CORPUS.glob("*.expected")}
