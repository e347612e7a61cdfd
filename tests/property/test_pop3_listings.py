"""Listings: what is well-formed is read as it stands, anything else is an error and nothing worse."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from mailferry.errors import RemoteProtocolError
from mailferry.protocol.pop3_listings import (
    parse_capabilities,
    parse_scan_listing,
    parse_stat,
    parse_uid_listing,
)

fast = settings(max_examples=200, deadline=None)

numbers = st.integers(1, 2**31 - 1)
sizes = st.integers(0, 10**18 - 1)
blanks = st.text(" \t", min_size=1, max_size=3).map(str.encode)
uids = (
    st.binary(min_size=1, max_size=80)
    .map(lambda uid: uid.replace(b"\n", b"?").strip(b" \t"))
    .filter(lambda uid: uid not in {b"", b"\r"} and not uid.endswith(b"\r"))
)
noise = st.lists(
    st.one_of(
        st.sampled_from([b"1", b"2", b" ", b"\t", b"\r\n", b"\n", b"\r", b"x", b"0", b"-", b"_"]),
        st.binary(max_size=3),
    )
).map(b"".join)


@fast
@given(listing=st.dictionaries(numbers, sizes), blank=blanks)
def test_scan_listings_are_read_as_they_stand(listing: dict[int, int], blank: bytes) -> None:
    body = b"".join(b"%d%s%d\r\n" % (number, blank, size) for number, size in listing.items())
    assert parse_scan_listing(body) == list(listing.items())


@fast
@given(listing=st.dictionaries(numbers, uids), blank=blanks)
def test_unique_ids_are_opaque(listing: dict[int, bytes], blank: bytes) -> None:
    body = b"".join(b"%d%s%s%s\r\n" % (number, blank, uid, blank) for number, uid in listing.items())
    assert parse_uid_listing(body) == list(listing.items())


@fast
@given(body=noise)
def test_no_line_of_a_listing_is_passed_over(body: bytes) -> None:
    lines = body.split(b"\r\n")[:-1]
    for parse in (parse_scan_listing, parse_uid_listing):
        with suppress(RemoteProtocolError):
            assert [number for number, _ in parse(body)] == [int(line.split()[0]) for line in lines]


@fast
@given(body=noise)
def test_anything_is_a_value_or_a_remote_error(body: bytes) -> None:
    parse_capabilities(body)
    with suppress(RemoteProtocolError):
        count, octets = parse_stat(body.decode("latin-1"))
        assert 0 <= count < 2**31
        assert 0 <= octets < 10**18
