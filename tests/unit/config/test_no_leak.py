"""A password in any wrong place never comes back in an error (promise 7)."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from pydantic_core import ErrorDetails

from mailferry.config import Settings, json_schema
from mailferry.config.problems import _sentence
from mailferry.errors import ConfigError

from .conftest import VALID

SECRET = "Hunter2-c0rrect"
KEYS = json_schema()["properties"]
NAMED = {"maildrop": "x", "destination": "x", "etrn": "x"}


def _tables() -> Iterator[tuple[str, list[str]]]:
    for section, schema in KEYS.items():
        if section not in NAMED:
            yield section, list(schema["properties"])
            continue
        (entry,) = schema["patternProperties"].values()
        for table in entry.get("oneOf", [entry]):
            yield f"{section}.x", list(table["properties"])


SHAPES = (
    "{secret}",
    "[{secret}]",
    "[[{secret}]]",
    "{{ file = {secret} }}",
    "{{ env = {secret} }}",
    "{{ credential = {secret} }}",
    "{{ command = {secret} }}",
    "{{ command = [{secret}, 5] }}",
    "{{ command = {quoted} }}",
    "{{ secret = {secret} }}",
)


def _shown(error: ConfigError) -> str:
    """Everything that a log, a terminal or a debugger's first look could show of the error."""
    seen: list[str] = []
    link: BaseException | None = error
    while link is not None:
        seen += [str(link), repr(link), repr(link.args), repr(getattr(link, "__dict__", {}))]
        link = link.__cause__ or link.__context__
    return "\n".join([*seen, *traceback.format_exception(error)])


def _assert_clean(load: Callable[..., Settings], text: str, environ: dict[str, str] | None = None) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text, environ=environ)
    shown = _shown(caught.value)
    assert SECRET not in shown
    assert SECRET.lower() not in shown
    assert json.dumps(SECRET)[1:-1] not in shown


@pytest.mark.parametrize("shape", SHAPES)
def test_no_value_of_any_key_is_repeated(load: Callable[..., Settings], shape: str) -> None:
    value = shape.format(secret=json.dumps(SECRET), quoted=json.dumps(f"'{SECRET}"))
    text = ["unknown_at_the_top = " + value]
    for table, keys in _tables():
        text += [f"[{table}]", *(f"{key} = {value}" for key in keys), f"unknown = {value}"]
        if table == "destination.x":
            # The first of its sorts; the other cannot stand in the same file.
            break
    _assert_clean(load, "\n".join(text) + "\n")


@pytest.mark.parametrize("shape", SHAPES)
def test_no_value_of_the_later_tables_is_repeated(load: Callable[..., Settings], shape: str) -> None:
    value = shape.format(secret=json.dumps(SECRET), quoted=json.dumps(f"'{SECRET}"))
    keys = KEYS["etrn"]["patternProperties"]
    (etrn,) = keys.values()
    text = ["[etrn.x]", *(f"{key} = {value}" for key in etrn["properties"])]
    text += [
        "[destination.x]",
        'type = "maildir"',
        f"path = {value}",
        f"enabled = {value}",
        f"unknown = {value}",
    ]
    _assert_clean(load, VALID + "\n".join(text) + "\n")


@pytest.mark.parametrize("section", list(KEYS))
def test_no_value_in_the_place_of_a_table_is_repeated(load: Callable[..., Settings], section: str) -> None:
    _assert_clean(load, f'{section} = "{SECRET}"\n')
    _assert_clean(load, f'{section} = ["{SECRET}"]\n')
    if section in NAMED:
        _assert_clean(load, f'{section}.x = "{SECRET}"\n')
        _assert_clean(load, f'[[{section}.x]]\npassword = "{SECRET}"\n')


@pytest.mark.parametrize(
    "line",
    [
        f"password = {SECRET}",
        f'password = "{SECRET}',
        f"password = '{SECRET}",
        f'password = """{SECRET}',
        f'password = "{SECRET}" "{SECRET}"',
        f'password "{SECRET}"',
        f'password = {{ file = "{SECRET}"',
        f'password = {{ file = "{SECRET}", file = "{SECRET}" }}',
        f'password = "{SECRET}\\q"',
        f'password = "{SECRET}\x01"',
        f'password = "{SECRET}"\npassword = "{SECRET}"',
        f"password = [{SECRET}]",
        f"password = 12:34:{SECRET}",
    ],
)
def test_no_syntax_error_repeats_the_line(load: Callable[..., Settings], line: str) -> None:
    _assert_clean(load, f"{VALID}[maildrop.x]\n{line}\n")


def test_no_undecodable_octets_are_repeated(load: Callable[..., Settings]) -> None:
    text = f'{VALID}[maildrop.x]\npassword = "{SECRET}'.encode() + b'\xff"\n'
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert SECRET not in _shown(caught.value)


@pytest.mark.parametrize(
    "value", [SECRET, f"[{SECRET}", f'["{SECRET}"', f'{{"file": "{SECRET}"', f"{SECRET},{SECRET}"]
)
def test_no_variable_is_repeated(load: Callable[..., Settings], value: str) -> None:
    environ = {
        f"MAILFERRY_{table.replace('.', '__').upper()}__{key.upper()}": value
        for table, keys in _tables()
        for key in keys
    }
    _assert_clean(load, VALID, environ | {"MAILFERRY_UNKNOWN": value, "STATE_DIRECTORY": f"{value}\n"})


def test_no_content_of_a_refused_file_is_repeated(load: Callable[..., Settings], directory: Path) -> None:
    for content in (f"{SECRET}\n{SECRET}\n".encode(), SECRET.encode() + b"\xff", SECRET.encode() * 10_000):
        (directory / "secrets" / "alice").write_bytes(content)
        _assert_clean(load, VALID)


def test_an_error_that_we_do_not_know_is_told_by_its_kind_only() -> None:
    detail = {"type": "of_a_later_version", "loc": ("daemon", "trace"), "msg": SECRET, "input": SECRET}
    assert _sentence(cast("ErrorDetails", detail), ("daemon", "trace")) == "is not valid (of_a_later_version)"
