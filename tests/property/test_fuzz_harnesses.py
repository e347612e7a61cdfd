"""The fuzz harnesses themselves, without a fuzzer: their corpus, and some hundred inputs made from it.

This keeps them in step with the program between two runs of `make fuzz`, and what
those found is in the corpus. The inputs are the same in every run.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.__main__ import main
from fuzz.harness import Harness
from fuzz.registry import NAMES, load

GENERATED = {"growth": 10, "config": 150, "spooled": 100}
"""Fewer where an input takes its time."""


@pytest.fixture(params=NAMES)
def harness(request: pytest.FixtureRequest) -> Harness:
    return load(request.param)


def test_the_corpus_holds_nothing_to_find(harness: Harness) -> None:
    corpus = harness.corpus()
    assert len(corpus) > 10
    for data in corpus:
        assert len(data) <= harness.max_octets
        harness.check(data)


def test_what_is_made_from_the_corpus_holds_nothing_to_find(harness: Harness) -> None:
    for data in harness.generated(GENERATED.get(harness.name, 300)):
        try:
            harness.check(data)
        except Exception as error:
            error.add_note(f"python -m fuzz replay {harness.name} FILE, with these octets in it: {data!r}")
            raise


def test_the_inputs_are_the_same_each_time(harness: Harness) -> None:
    assert list(harness.generated(20)) == list(harness.generated(20))
    assert len(set(harness.generated(20))) > 10


def test_an_input_can_be_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wire-crash").write_bytes(b"a\n.\nb")
    assert main(["replay", "wire", str(tmp_path / "wire-crash")]) == 0
    assert capsys.readouterr().out == "b'a\\n.\\nb'\n"


def test_a_harness_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["pop4"])
    assert "no harness pop4; there are pop3, smtp" in capsys.readouterr().err
