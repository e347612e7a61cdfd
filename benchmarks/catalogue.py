"""All workloads, with who takes part and how."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.contenders.base import Contender
from benchmarks.contenders.fdm import Fdm
from benchmarks.contenders.fetchmail import Fetchmail
from benchmarks.contenders.floor import Floor
from benchmarks.contenders.getmail import Getmail
from benchmarks.contenders.mpop import Mpop
from benchmarks.contenders.ours import Ours
from benchmarks.workloads import Goal, Load, Trial, Unit, Workload

CONTENDERS: Mapping[str, Contender] = {
    each.name: each
    for each in (
        Ours(),
        Ours(chunking=True),
        Floor(),
        Floor(chunking=True),
        Floor(pooled=True),
        Fetchmail(),
        Fetchmail(lazy=True),
        Fdm(),
        Mpop(),
        Getmail(),
    )
}

_BOTH_WAYS = {name: Trial(seconds=2) for name in ("ours", "ours-bdat", "floor", "floor-bdat")}
_DATA_ALONE = {name: Trial(seconds=3) for name in ("ours", "floor")}

_ALL = (
    Workload(
        "A",
        "one maildrop, 5000 x 4 KB, deleted",
        Load(1, 5000, 4096),
        Unit.MESSAGES,
        {
            **_BOTH_WAYS,
            "fetchmail": Trial(repetitions=3, seconds=6),
            "fetchmail-lazy": Trial(share=0.02, repetitions=2, seconds=5),
            "fdm": Trial(repetitions=3, seconds=8),
            "mpop": Trial(share=0.1, repetitions=2, seconds=5),
            "getmail": Trial(share=0.2, repetitions=2, seconds=4),
        },
    ),
    Workload(
        "B",
        "one maildrop, 40 x 5 MB",
        Load(1, 40, 5_000_000),
        Unit.MEGABYTES,
        {
            **_BOTH_WAYS,
            "fetchmail": Trial(share=0.5, repetitions=2, seconds=7),
            "fdm": Trial(repetitions=3, seconds=2),
            "mpop": Trial(share=0.5, repetitions=2, seconds=5),
            "getmail": Trial(share=0.5, repetitions=2, seconds=6),
        },
    ),
    Workload(
        "C",
        "200 maildrops x 10 x 8 KB",
        Load(200, 10, 8192),
        Unit.MESSAGES,
        {
            **_BOTH_WAYS,
            "fetchmail": Trial(processes=8, repetitions=3, seconds=3),
            "fdm": Trial(processes=8, repetitions=3, seconds=3),
            "mpop": Trial(share=0.5, processes=8, repetitions=2, seconds=6),
            "getmail": Trial(share=0.5, processes=8, repetitions=2, seconds=7),
        },
        at_once=64,
        sessions=8,
    ),
    Workload(
        "D",
        "200 maildrops x 10 x 8 KB, far",
        Load(200, 10, 8192),
        Unit.MESSAGES,
        {
            **_BOTH_WAYS,
            "fetchmail": Trial(processes=32, repetitions=2, seconds=20),
            "fdm": Trial(processes=32, repetitions=2, seconds=14),
            "mpop": Trial(share=0.25, processes=32, repetitions=2, seconds=16),
            "getmail": Trial(share=0.25, processes=32, repetitions=2, seconds=20),
        },
        far=True,
        at_once=64,
        sessions=64,
        repetitions=3,
    ),
    Workload(
        "E",
        "one maildrop, 500 x 4 KB, far",
        Load(1, 500, 4096),
        Unit.MESSAGES,
        {
            **_BOTH_WAYS,
            "fetchmail": Trial(share=0.06, repetitions=2, seconds=7),
            "fdm": Trial(share=0.06, repetitions=2, seconds=6),
            "mpop": Trial(share=0.06, repetitions=2, seconds=7),
            "getmail": Trial(share=0.06, repetitions=2, seconds=7),
        },
        far=True,
        sessions=20,
        repetitions=3,
    ),
    Workload(
        "F",
        "idle poll, 500 maildrops x 50 seen messages, far",
        Load(500, 0, 1024, seen=50),
        Unit.MAILDROPS,
        {
            **_DATA_ALONE,
            "fetchmail": Trial(processes=32, repetitions=2, seconds=10),
            "fdm": Trial(processes=32, repetitions=2, seconds=10),
            "mpop": Trial(processes=32, repetitions=2, seconds=10),
            "getmail": Trial(share=0.25, processes=32, repetitions=2, seconds=14),
        },
        goal=Goal.NOWHERE,
        far=True,
        keep=True,
        at_once=64,
        sessions=64,
        repetitions=3,
    ),
    Workload(
        "G",
        "one maildrop with 30,000 seen messages and 10 new ones, one poll",
        Load(1, 10, 1024, seen=30_000),
        Unit.SECONDS,
        {
            **_DATA_ALONE,
            "fetchmail": Trial(seconds=1),
            "mpop": Trial(seconds=1),
            "getmail": Trial(repetitions=2, seconds=3),
        },
        keep=True,
    ),
    Workload(
        "H",
        "one maildrop, 5000 x 4 KB, deleted, over POP3S",
        Load(1, 5000, 4096),
        Unit.MESSAGES,
        {
            "ours": Trial(seconds=2),
            "ours-bdat": Trial(seconds=2),
            "fetchmail": Trial(repetitions=3, seconds=7),
            "fdm": Trial(repetitions=2, seconds=8),
            "mpop": Trial(share=0.1, repetitions=2, seconds=5),
            "getmail": Trial(share=0.2, repetitions=2, seconds=4),
        },
        tls=True,
        repetitions=3,
    ),
    Workload(
        "I",
        "one maildrop, 5000 x 4 KB, into a Maildir, every message synced",
        Load(1, 5000, 4096),
        Unit.MESSAGES,
        {
            "ours": Trial(seconds=4),
            "floor": Trial(seconds=3),
            "floor-pooled": Trial(seconds=2),
            "fdm": Trial(repetitions=2, seconds=9),
            "mpop": Trial(repetitions=3, seconds=3),
            "getmail": Trial(share=0.1, repetitions=2, seconds=7),
        },
        goal=Goal.MAILDIR,
        repetitions=3,
    ),
)

WORKLOADS: Mapping[str, Workload] = {workload.key: workload for workload in _ALL}
