"""Octets behind the 250 to ATRN: none is lost and none is read as a reply, however they are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mailferry.errors import RemoteProtocolError
from mailferry.protocol.smtp import SmtpConnection, SmtpState
from mailferry.protocol.smtp_commands import Atrn, Ehlo


def asked() -> SmtpConnection:
    """Return a session whose ATRN waits for its answer."""
    core = SmtpConnection()
    core.receive_data(b"220 ready\r\n")
    core.send(Ehlo("home.example.org"))
    core.data_to_send()
    core.receive_data(b"250-odmr\r\n250 ATRN\r\n")
    core.send(Atrn(("example.org",)))
    core.data_to_send()
    return core


def feed(core: SmtpConnection, octets: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(octets), *(cut % (len(octets) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        core.receive_data(octets[start:end])


@given(
    st.lists(st.sampled_from([b"250-OK\r\n", b"250-reversing\r\n"]), max_size=3),
    st.binary(max_size=300),
    st.lists(st.integers(0, 1000), max_size=12),
)
def test_what_follows_is_kept_to_the_last_octet(first: list[bytes], behind: bytes, cuts: list[int]) -> None:
    core = asked()
    feed(core, b"".join(first) + b"250 go\r\n" + behind, cuts)
    assert (core.state, core.turned_octets) == (SmtpState.TURNED, behind)


@given(st.binary(max_size=300), st.lists(st.integers(0, 1000), max_size=12))
def test_no_answer_but_250_turns_anything(answer: bytes, cuts: list[int]) -> None:
    core = asked()
    try:
        feed(core, answer, cuts)
    except RemoteProtocolError:
        assert core.state is SmtpState.CLOSED
        assert core.turned_octets == b"" or answer.startswith(b"250")
        return
    if core.state is SmtpState.TURNED:
        assert answer.startswith(b"250")
        assert answer.endswith(core.turned_octets)
