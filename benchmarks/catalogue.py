"""All workloads, with who takes part and how, and what is to be reached."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.contenders.base import Contender
from benchmarks.contenders.fetchmail import Fetchmail
from benchmarks.contenders.floor import Floor
from benchmarks.contenders.ours import Ours
from benchmarks.workloads import Load, Trial, Unit, Workload

CONTENDERS: Mapping[str, Contender] = {
    each.name: each
    for each in (
        Ours(),
        Ours(chunking=True),
        Floor(),
        Floor(chunking=True),
        Fetchmail(),
        Fetchmail(lazy=True),
    )
}

_QUICK = {name: Trial() for name in ("ours", "ours-bdat", "floor", "floor-bdat")}

WORKLOADS: Mapping[str, Workload] = {
    work.key: work
    for work in (
        Workload(
            "A",
            "one maildrop, 5000 x 4 KB, deleted",
            Load(1, 5000, 4096),
            Unit.MESSAGES,
            {
                **_QUICK,
                "fetchmail": Trial(repetitions=3, seconds=6),
                "fetchmail-lazy": Trial(share=0.02, repetitions=2, seconds=5),
            },
        ),
        Workload(
            "B",
            "one maildrop, 40 x 5 MB",
            Load(1, 40, 5_000_000),
            Unit.MEGABYTES,
            {**_QUICK, "fetchmail": Trial(share=0.5, repetitions=2, seconds=8)},
        ),
        Workload(
            "C",
            "200 maildrops x 10 x 8 KB",
            Load(200, 10, 8192),
            Unit.MESSAGES,
            {**_QUICK, "fetchmail": Trial(processes=8, repetitions=3, seconds=5)},
            at_once=64,
            sessions=8,
        ),
    )
}
