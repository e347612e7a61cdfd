from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretBytes, SecretStr

from mailferry.errors import SecretError
from mailferry.telemetry.redaction import (
    MASK,
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_STRING_CHARACTERS,
    clean_text,
    clean_value,
    redact,
)


def redacted(**fields: object) -> dict[str, Any]:
    return dict(redact(None, "info", fields))


@pytest.mark.parametrize(
    "key",
    [
        "password", "smtp_password", "PassWord", "passwd", "pass", "user_pass", "passphrase", "pwd", "secret",
        "client_secret", "token", "access_token", "Authorization", "proxy-authorization", "credential",
        "credentials", "cookie", "set-cookie", "api_key", "api-key", "private_key", "bearer",
    ],
)  # fmt: skip
def test_what_sits_under_a_secrets_name_is_masked(key: str) -> None:
    assert redacted(**{key: "hunter2"}) == {key: MASK}
    assert redacted(**{key: 12345}) == {key: MASK}
    assert redacted(settings={key: "hunter2"}) == {"settings": {key: MASK}}
    assert redacted(settings=[{key: b"hunter2"}]) == {"settings": [{key: MASK}]}


@pytest.mark.parametrize(
    "key", ["maildrop", "passed", "bypass", "compass", "failures", "result", "uidl", "author"]
)
def test_other_names_are_not_masked(key: str) -> None:
    assert redacted(**{key: "value"}) == {key: "value"}


class OurSecret:
    def __str__(self) -> str:
        return "hunter2"


class Holder(OurSecret):
    """Does not say so in its name, but its parent does."""


@pytest.mark.parametrize("secret", [SecretStr("hunter2"), SecretBytes(b"hunter2"), OurSecret(), Holder()])
def test_an_object_that_keeps_a_secret_is_masked_under_any_name(secret: object) -> None:
    assert redacted(detail=secret) == {"detail": MASK}
    assert redacted(detail={"deep": [secret]}) == {"detail": {"deep": [MASK]}}


def test_an_error_about_a_secret_is_text() -> None:
    assert redacted(error=SecretError("cannot read the file")) == {"error": "cannot read the file"}


def test_the_user_part_of_a_url_is_masked() -> None:
    text = "connect to postgresql://ferry:hunter2@db.example/ledger or http://token@proxy.example failed"
    assert (
        clean_text(text) == "connect to postgresql://***@db.example/ledger or http://***@proxy.example failed"
    )
    assert clean_text("see https://example.org/a@b") == "see https://example.org/a@b"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("two\r\nlines\tand a tab", r"two\x0d\x0alines\x09and a tab"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x9b2J\x7f", r"\x9b2J\x7f"),
        ("invoice\u202efdp.exe", r"invoice\u202efdp.exe"),
        ("\u2066a\u2069\u200f\u061c", r"\u2066a\u2069\u200f\u061c"),
        ("line\u2028para\u2029", r"line\u2028para\u2029"),
        ("broken \udcff", r"broken \udcff"),
        ("nul\x00", r"nul\x00"),
        ("Отчёт за квартал 报告 🚢", "Отчёт за квартал 报告 🚢"),
        ("no-break\u00a0space, 👩\u200d🚀", "no-break\u00a0space, 👩\u200d🚀"),
    ],
)
def test_what_could_command_a_terminal_is_shown_as_an_escape(raw: str, shown: str) -> None:
    assert clean_text(raw) == shown
    assert redacted(subject=raw) == {"subject": shown}
    assert redacted(parts=[raw, {raw: raw}]) == {"parts": [shown, {shown: shown}]}


def test_octets_become_text() -> None:
    assert clean_value(b"uidl \xff\x1b") == r"uidl \xff\x1b"


def test_strings_are_bounded() -> None:
    assert clean_text("a" * MAX_STRING_CHARACTERS) == "a" * MAX_STRING_CHARACTERS
    for flood in ("a" * (MAX_STRING_CHARACTERS + 1), "\x1b" * 1_000, "\x1b" * 1_000_000):
        cut = clean_text(flood)
        assert len(cut) == MAX_STRING_CHARACTERS
        assert cut.endswith("...[cut]")
    assert len(str(clean_value(b"\xff" * 1_000_000))) == MAX_STRING_CHARACTERS


def test_collections_are_bounded() -> None:
    assert clean_value(range(10**9)) == list(range(MAX_ITEMS))
    many = clean_value({str(number): number for number in range(MAX_ITEMS + 1)})
    assert isinstance(many, dict)
    assert len(many) == MAX_ITEMS
    endless: list[object] = []
    endless.append(endless)
    assert str(clean_value(endless)).count("[") == MAX_DEPTH


def test_numbers_that_json_lacks_become_text() -> None:
    assert redacted(a=math.nan, b=math.inf, c=1.5, d=True, e=None, f=7) == {
        "a": "nan", "b": "inf", "c": 1.5, "d": True, "e": None, "f": 7,
    }  # fmt: skip


@given(st.text())
def test_a_cleaned_text_has_no_unsafe_character_and_stays_as_it_is(text: str) -> None:
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in cleaned)
    cleaned.encode("utf-8")
