from __future__ import annotations

import pytest

from mailferry.cli.demo_proof import (
    archive_problems,
    as_fetched,
    as_relayed,
    below_trace,
    maildrop_problems,
    sink_problems,
)
from mailferry.message.headers import drop_return_path
from mailferry.message.lineends import normalise_line_ends
from mailferry.sandbox import sample_messages

TRACE = b"Received: from a by b;\r\n\tMon, 06 Jul 2026 09:15:00 +0000\r\n"
SAMPLES = [
    b"Return-Path: <a@example.org>\r\nSubject: one\r\n\r\nfirst\r\n",
    b"Subject: two\n\nReturn-Path: in the body\n.\rend",
    b"\r\nReturn-Path: no header\r\n",
]
RELAYED = [
    b"Subject: one\r\n\r\nfirst\r\n",
    b"Subject: two\r\n\r\nReturn-Path: in the body\r\n.\r\nend\r\n",
    b"\r\nReturn-Path: no header\r\n",
]


def test_what_relayed_messages_look_like() -> None:
    assert [as_relayed(as_fetched(sample)) for sample in SAMPLES] == RELAYED


@pytest.mark.parametrize("sample", sample_messages())
def test_two_ways_to_work_it_out_agree(sample: bytes) -> None:
    fetched = as_fetched(sample)
    assert as_relayed(fetched) == normalise_line_ends(drop_return_path(fetched))


def test_our_trace_field_and_no_other_is_taken_off() -> None:
    other = b"Received: by c;\r\n date\r\nSubject: x\r\n\r\n"
    assert below_trace(TRACE + other) == other
    assert below_trace(b"Subject: x\r\n\r\n") is None


def test_all_there_is_no_problem() -> None:
    assert sink_problems(SAMPLES, [TRACE + content for content in reversed(RELAYED)]) == []
    assert archive_problems([*SAMPLES, SAMPLES[0]], map(as_fetched, SAMPLES)) == []


@pytest.mark.parametrize(
    ("received", "words"),
    [
        ([TRACE + content for content in RELAYED[:2]], ["missing or altered"]),
        ([TRACE + content for content in [*RELAYED, RELAYED[0]]], ["doubled or altered"]),
        (
            [TRACE + RELAYED[0].replace(b"first", b"forst"), *(TRACE + content for content in RELAYED[1:])],
            ["missing or altered", "doubled or altered"],
        ),
        (
            [RELAYED[0], *(TRACE + c for c in RELAYED[1:])],
            ["missing or altered", "without our Received field"],
        ),
    ],
)
def test_every_difference_is_a_problem(received, words) -> None:
    problems = sink_problems(SAMPLES, received)
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


def test_an_archive_may_hold_nothing_else() -> None:
    assert len(archive_problems(SAMPLES, [*map(as_fetched, SAMPLES), b"stray"])) == 1
    assert len(archive_problems(SAMPLES, SAMPLES)) == 2  # the last line end must be there


def test_maildrops_must_be_as_they_should() -> None:
    assert maildrop_problems({"kept": [b"a"], "emptied": []}, {"kept": [b"a"], "emptied": []}) == []
    assert len(maildrop_problems({"kept": [b"a"], "emptied": []}, {"kept": [], "emptied": [b"b"]})) == 2
