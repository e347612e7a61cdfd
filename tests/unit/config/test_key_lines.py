from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailferry.config.key_lines import KeyPath, key_lines

ROOT = Path(__file__).parents[3]

DOCUMENT = '''\
# a comment with [x] = "y"
title = "a = 1 # [no.table]"
"quoted.key" = 1
'literal key' = 2
site."google.com".on = true

[owner]  # comment
name = """
[not.a.table]
key = "no key" \\""" still inside
"""  # end
raw = \'\'\'
['nor.here']
x = 1\'\'\'
five = """ends with two quotes"""""

[servers.alpha]
ports = [ 8001, # one ] comment
  8002,
  [ "a", "]" ], ]
inline = { x = 1, y.z = "}", list = [1, { deep = "," }] }
when = 1979-05-27 07:32:00
float = 6.26e-34

[[fruit]]
name = "apple"
[[fruit.variety]]
name = "red"
[[fruit.variety]]
name = "green"

[[fruit]]
name = "banana"
[fruit.color]
rgb = [1, 2, 3]
'''


def flattened(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = ((str(number), entry) for number, entry in enumerate(value))
    for key, inner in items:
        yield (*path, key)
        yield from flattened(inner, (*path, key))


def test_every_key_has_its_line() -> None:
    lines = key_lines(DOCUMENT)
    assert set(lines) == set(flattened(tomllib.loads(DOCUMENT)))
    expected: dict[KeyPath, int] = {
        ("title",): 2,
        ("quoted.key",): 3,
        ("literal key",): 4,
        ("site", "google.com", "on"): 5,
        ("owner",): 7,
        ("owner", "name"): 8,
        ("owner", "raw"): 12,
        ("owner", "five"): 15,
        ("servers",): 17,
        ("servers", "alpha", "ports", "0"): 18,
        ("servers", "alpha", "ports", "1"): 19,
        ("servers", "alpha", "ports", "2", "1"): 20,
        ("servers", "alpha", "inline", "y", "z"): 21,
        ("servers", "alpha", "inline", "list", "1", "deep"): 21,
        ("servers", "alpha", "float"): 23,
        ("fruit",): 25,
        ("fruit", "0"): 25,
        ("fruit", "0", "variety", "1", "name"): 30,
        ("fruit", "1"): 32,
        ("fruit", "1", "color", "rgb", "2"): 35,
    }
    assert {path: lines[path] for path in expected} == expected


def test_crlf_counts_as_one_line() -> None:
    assert key_lines(DOCUMENT.replace("\n", "\r\n")) == key_lines(DOCUMENT)


def test_an_empty_document_has_no_keys() -> None:
    assert key_lines("") == {}
    assert key_lines("# only a comment") == {}


FILES = [*ROOT.glob("tests/bad_configs/*.toml"), *ROOT.glob("config/**/*.toml*"), ROOT / "pyproject.toml"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_real_files_give_the_keys_that_the_parser_finds(path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8")
        parsed = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        return  # the scanner is for accepted text only
    assert set(key_lines(text)) == set(flattened(parsed))


# Documents whose layout is known by construction, so that the scanner is judged by something else than itself.

KEY_TEXTS = st.sampled_from(["a", "b-c", "d_1", "7", '"e.f"', "'g h'", '"i\\"j"', '"="', '"["', '"#"'])
STRINGS = st.sampled_from(
    [
        '"x"',
        "''",
        '"]"',
        "'}'",
        '"#"',
        '"a\\\\"',
        '"""a\n[b]\nc = 1"""',
        "'''\n'a' = \"\n'''",
        '""""q""""',
        '"""\\""""""',
    ]
)
SCALARS = st.one_of(
    STRINGS,
    st.sampled_from(["1", "-2.5", "true", "1979-05-27T07:32:00Z", "07:32:00", "inf", "0xff", "1_000"]),
)
GAPS = st.sampled_from(["", " ", "\n", " # ]}=\n", "\n\n  "])


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    entries = draw(st.lists(values, max_size=3))
    body = ",".join(draw(GAPS) + entry + draw(GAPS) for entry in entries)
    return f"[{body}{draw(st.sampled_from(['', ','])) if entries else ''}{draw(GAPS)}]"


@st.composite
def inline_tables(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    keys = draw(st.lists(KEY_TEXTS, max_size=3, unique=True))
    return "{" + ",".join(f" {key} = {draw(values)} " for key in keys) + "}"


VALUES = st.recursive(SCALARS, lambda inner: st.one_of(arrays(inner), inline_tables(inner)), max_leaves=6)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[KeyPath, int]]:
    text, expected = "", {}
    for number in range(draw(st.integers(0, 4))):
        text += draw(st.sampled_from(["", "\n", "# [c] x = 1\n"]))
        table = f"t{number}"
        expected[(table,)] = text.count("\n") + 1
        text += f"[{table}] # ]\n"
        for key in draw(st.lists(KEY_TEXTS, max_size=4, unique=True)):
            text += draw(st.sampled_from(["", "\n", "  "]))
            name = next(iter(tomllib.loads(f"{key} = 1")))
            expected[(table, name)] = text.count("\n") + 1
            text += f"{key}{draw(st.sampled_from(['=', ' = ']))}{draw(VALUES)}\n"
    return text, expected


@given(documents())
def test_keys_stand_where_they_were_written(document: tuple[str, dict[KeyPath, int]]) -> None:
    text, expected = document
    lines = key_lines(text)
    assert set(lines) == set(flattened(tomllib.loads(text)))
    assert {path: lines[path] for path in expected} == expected
