"""What is read from the reply to EHLO."""

from __future__ import annotations

import pytest

from mailferry.protocol.smtp_features import SmtpFeatures, parse_features
from mailferry.protocol.smtp_replies import SmtpReply


def features(*lines: str) -> SmtpFeatures:
    return parse_features(SmtpReply(250, None, ("mx.example.org PIPELINING", *lines)))


def test_everything_is_off_without_keywords() -> None:
    assert features() == SmtpFeatures()  # the greeting line is no keyword


def test_all_keywords() -> None:
    found = features(
        "size 1000", "8bitmime", "SMTPUTF8", "PIPELINING", "CHUNKING", "STARTTLS", "ENHANCEDSTATUSCODES", "ETRN",
        "atrn",
        "AUTH PLAIN login", "AUTH  XOAUTH2", "X-OTHER a  b ",
    )  # fmt: skip

    assert found.size_limit == 1000
    assert found.eight_bit_mime
    assert found.smtputf8
    assert found.pipelining
    assert found.chunking
    assert found.starttls
    assert found.enhanced_status_codes
    assert found.etrn
    assert found.atrn
    assert found.auth_mechanisms == {"PLAIN", "LOGIN", "XOAUTH2"}
    assert found.keywords["X-OTHER"] == "a  b"
    assert found.keywords["8BITMIME"] == ""


@pytest.mark.parametrize(
    "line", ["SIZE", "SIZE 0", "SIZE x", "SIZE -1", "SIZE " + "9" * 21, "SIZE ٣", "SIZE 1 2"]
)
def test_no_size_limit(line: str) -> None:
    assert features(line).size_limit is None
    assert "SIZE" in features(line).keywords


@pytest.mark.parametrize("line", ["", " PIPELINING", "-PIPELINING", "AUTH=PLAIN", "PIPELINING=1", "ПИПЕ"])
def test_what_is_no_keyword_is_ignored(line: str) -> None:
    assert features(line) == SmtpFeatures()


def test_features_are_frozen() -> None:
    with pytest.raises(TypeError):
        features("SIZE").keywords["SIZE"] = "1"  # type: ignore[index]
