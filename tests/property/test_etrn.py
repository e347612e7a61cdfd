"""Whatever a server says, an answer is understood, a round ends, and no node is kept from being asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailferry.errors import ConnectError, HopError, MailferryError, ReadTimeoutError
from mailferry.policy.etrn import (
    ACCEPTED,
    LONGEST_PAUSE_SECONDS,
    NEEDS_PERSON,
    EtrnResult,
    Streak,
    is_served,
    judge,
    pending_messages,
    releases,
    result_of,
    standing_text,
)
from mailferry.protocol.smtp_replies import make_reply
from mailferry.services.etrn import EtrnPolicy, EtrnRound, NodeOutcome
from support.fake_etrn import FakeEtrnServer, lost
from support.virtual_time import FakeClock, run

CODES = st.integers(200, 599)
DOMAINS = st.from_regex(r"[a-z0-9]{1,5}(\.[a-z0-9]{1,5}){0,3}", fullmatch=True)


@given(code=CODES, text=st.text(), protected=st.booleans(), logged_in=st.booleans())
def test_every_reply_is_understood(code: int, text: str, protected: bool, logged_in: bool) -> None:
    answer = judge(make_reply(code, (text,)), protected=protected, logged_in=logged_in)
    assert (answer.result in ACCEPTED) == (code // 100 == 2)
    assert not (answer.result in NEEDS_PERSON and code // 100 == 2)
    assert not answer.ends_session or code in {421, 554}
    assert answer.pending is None or (code == 253 and 0 <= answer.pending < 10**9)
    assert not answer.promised or code in {252, 253}


@given(
    before=st.text("abc .,", max_size=9),
    number=st.integers(0, 10**9 - 1),
    after=st.text("abc .,", max_size=9),
)
def test_a_number_among_words_is_found(before: str, number: int, after: str) -> None:
    assert pending_messages(f"{before} {number} pending {after}") == number


@given(word=st.sampled_from(EtrnResult), said=st.text())
def test_a_standing_keeps_its_word(word: EtrnResult, said: str) -> None:
    assert result_of(standing_text(word, said)) is word


@given(
    results=st.lists(st.sampled_from(EtrnResult), max_size=40),
    chance=st.floats(0, 1, exclude_max=True),
    before=st.integers(0, 10**9),
)
def test_pauses_have_bounds(results: list[EtrnResult], chance: float, before: int) -> None:
    streak = Streak("refused: x", before)
    for result in results:
        assert 0 < streak.next_seconds(result, chance) <= LONGEST_PAUSE_SECONDS


@given(
    node=DOMAINS,
    at=st.booleans(),
    patterns=st.lists(DOMAINS | DOMAINS.map(lambda name: f".{name}"), max_size=4),
)
def test_mail_that_is_waited_for_can_be_told(node: str, at: bool, patterns: list[str]) -> None:
    """A node is watched only if the receiver takes some mail that would end the waiting."""
    named = f"@{node}" if at else node
    if is_served(named, patterns):
        candidates = [node, *(f"x{pattern}" if pattern.startswith(".") else pattern for pattern in patterns)]
        assert any(
            releases(named, domain)
            and any(domain.endswith(p) if p.startswith(".") else domain == p for p in patterns)
            for domain in candidates
        )


_SAYS: st.SearchStrategy[str | MailferryError] = st.one_of(
    CODES.map(lambda code: f"{code} so"),
    st.sampled_from(["421 bye", "554 too many commands", "250 ok"]),
    st.builds(lost),
    st.builds(lambda: ReadTimeoutError("slow")),
)
_OPENS: st.SearchStrategy[MailferryError] = st.sampled_from([ConnectError("refused"), HopError("554 no")])


@given(
    says=st.lists(st.lists(_SAYS, min_size=1, max_size=3), min_size=1, max_size=8),
    per_session=st.integers(1, 5),
    session_limit=st.integers(0, 4),
    opens=st.lists(_OPENS, max_size=2),
)
def test_a_round_ends_and_accounts_for_every_node(
    says: list[list[str | MailferryError]], per_session: int, session_limit: int, opens: list[MailferryError]
) -> None:
    nodes = [f"n{number}" for number in range(len(says))]
    server = FakeEtrnServer()
    server.says = dict(zip(nodes, says, strict=True))
    server.session_limit, server.opens = session_limit, opens
    outcomes: list[NodeOutcome] = []

    async def ask() -> None:
        policy = EtrnPolicy("office", "mx", tuple(nodes), nodes_per_session=per_session)
        report = await EtrnRound(policy, server, FakeClock(), outcomes.append).run(nodes)
        told = [outcome.node for outcome in outcomes]
        assert len(told) == len(set(told)), "two outcomes for one node"
        assert sorted([*told, *report.unasked]) == sorted(nodes)
        assert report.failure is not None or not report.unasked
        assert not report.unasked or server.sessions == 0 or len(server.asked) >= 2
        assert server.open_now == 0
        assert server.sessions <= 2 * len(nodes) + 2
        assert all(server.nodes_asked.count(node) <= 2 for node in nodes)

    run(ask(), debug=False)
