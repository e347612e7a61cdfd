from __future__ import annotations

import pytest

from mailferry.quarantine.naming import entry_of_message_file, entry_of_reason_file, matching, message_file

NAME = "0123456789abcdef"


@pytest.mark.parametrize(
    "file",
    [message_file(NAME, 7), f"{NAME}.mailferry", f"{NAME}.mailferry,S=7,W=9:2,RS", f"{NAME}.mailferry:2,\n"],
)
def test_a_file_of_ours_is_known_whatever_a_reader_appends(file: str) -> None:
    assert entry_of_message_file(file) == NAME


@pytest.mark.parametrize(
    "file",
    [
        "",
        NAME,
        f"{NAME}.mailferry2",
        f"x{NAME}.mailferry",
        f"{NAME.upper()}.mailferry",
        f"{NAME[1:]}.mailferry",
        f"{NAME}-.mailferry",
    ],
)
def test_a_file_of_somebody_elses_is_not(file: str) -> None:
    assert entry_of_message_file(file) is None
    assert entry_of_reason_file(file) is None


def test_reasons() -> None:
    assert entry_of_reason_file(f"{NAME}-12.json") == f"{NAME}-12"
    assert entry_of_reason_file(f"{NAME}.json.77") is None


def test_a_beginning_that_is_unique_suffices() -> None:
    names = {"aa11", "aa22", "bb", "bb-2"}
    assert matching(names, "aa1") == ["aa11"]
    assert matching(names, "aa") == ["aa11", "aa22"]
    assert matching(names, "bb") == ["bb"]  # whole, though it begins another
    assert matching(names, "bb-") == ["bb-2"]
    assert matching(names, "c") == matching(names, "") == []
