from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailferry.config.units import format_duration, format_octets, parse_duration, parse_octets


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("2h", 7200),
        ("14d", 1209600),
        ("1w", 604800),
        ("250ms", 0.25),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1.5h", 5400),
        (" 5 m ", 300),
        ("45", 45),
        (45, 45),
        (0.5, 0.5),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", "m", "5 minutes", "-5m", "5M", "5mm", "1e3s", "٥m", True, None, -1, float("nan"), float("inf"), [5]],
)
def test_what_is_no_duration(written: object) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "octets"), [("50M", 50 << 20), ("10K", 10240), ("1 G", 1 << 30), ("7", 7), (7, 7), (0, 0)]
)
def test_sizes(written: object, octets: int) -> None:
    assert parse_octets(written) == octets


@pytest.mark.parametrize("written", ["", "M", "50MB", "50m", "1.5G", "-1", -1, 1.0, True, None, "٥M"])
def test_what_is_no_size(written: object) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        parse_octets(written)


@given(st.integers(0, 10**9))
def test_what_is_formatted_reads_back(number: int) -> None:
    assert parse_octets(format_octets(number)) == number
    assert parse_duration(format_duration(number)) == number
