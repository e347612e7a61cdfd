"""Who runs when, with how much mail."""

from __future__ import annotations

import pytest

from benchmarks.aims import AIMS
from benchmarks.catalogue import CONTENDERS, WORKLOADS
from benchmarks.schedule import Entry, Wish, entries, estimate, interleaved
from benchmarks.workloads import Load, Trial, Unit

EVERYBODY = Wish(list(WORKLOADS), list(CONTENDERS))
_FULL_RUN_SECONDS = 25 * 60


def _entry(name: str, repetitions: int) -> Entry:
    return Entry(name, Trial(), Load(1, 1, 1), repetitions)


def test_runs_are_interleaved_and_the_slow_stop_earlier() -> None:
    order = [entry.contender for entry in interleaved([_entry("a", 3), _entry("b", 1), _entry("c", 2)])]

    assert order == ["a", "b", "c", "a", "c", "a"]
    assert list(interleaved([])) == []


def test_what_is_slow_gets_a_part_of_the_maildrops_or_of_the_only_ones_messages() -> None:
    assert Load(200, 10, 8192).part(0.25) == Load(50, 10, 8192)
    assert Load(1, 5000, 4096).part(0.02) == Load(1, 100, 4096)
    assert Load(1, 10, 100, seen=30_000).part(0.001) == Load(1, 1, 100, seen=30_000)


def test_a_scale_makes_fewer_maildrops_and_fewer_messages_in_each() -> None:
    assert Load(200, 10, 8192).scaled(0.25) == Load(100, 5, 8192)
    assert Load(1, 10, 100, seen=30_000).scaled(0.1) == Load(1, 1, 100, seen=3000)
    assert Load(500, 0, 100, seen=50).scaled(0.0001) == Load(5, 0, 100, seen=1), (
        "nothing new stays nothing new"
    )


def test_with_a_scale_the_slow_get_as_much_as_the_others() -> None:
    full = {entry.contender: entry.load.messages for entry in entries(WORKLOADS["A"], EVERYBODY)}
    small = {
        entry.contender: entry.load.messages
        for entry in entries(WORKLOADS["A"], Wish(["A"], list(CONTENDERS), scale=0.01, repetitions=1))
    }

    assert full["mpop"] < full["ours"]
    assert set(small.values()) == {50}


def test_a_brief_run_has_variants_in_its_first_workload_alone() -> None:
    wish = Wish(["A", "C"], list(CONTENDERS), brief=True)

    assert "ours-bdat" in [entry.contender for entry in entries(WORKLOADS["A"], wish)]
    assert "ours-bdat" not in [entry.contender for entry in entries(WORKLOADS["C"], wish)]


def test_only_those_who_are_present_take_part() -> None:
    assert [entry.contender for entry in entries(WORKLOADS["A"], Wish(["A"], ["floor"]))] == ["floor"]


def test_a_full_run_is_bearable() -> None:
    assert 0 < estimate(WORKLOADS, EVERYBODY) < _FULL_RUN_SECONDS


@pytest.mark.parametrize("key", WORKLOADS)
def test_every_workload_is_complete(key: str) -> None:
    work = WORKLOADS[key]

    assert set(work.trials) <= set(CONTENDERS)
    assert {"ours"} <= set(work.trials)
    for aim in AIMS[key]:
        assert aim.ours in work.trials
        assert set(aim.rivals) & set(work.trials), f"nobody to compare with: {aim}"


def test_figures_count_what_their_unit_says() -> None:
    assert WORKLOADS["A"].figure(Load(1, 500, 4096), 2.0) == 250
    assert WORKLOADS["B"].figure(Load(1, 40, 5_000_000), 2.0) == 100
    assert WORKLOADS["F"].figure(Load(500, 0, 1, seen=50), 2.0) == 250
    assert WORKLOADS["G"].figure(Load(1, 10, 1), 0.3) == 0.3
    assert [work.key for work in WORKLOADS.values() if work.less_is_better] == ["G"]
    assert WORKLOADS["G"].unit is Unit.SECONDS
