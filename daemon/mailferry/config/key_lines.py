"""On which line of a TOML file each key stands.

`tomllib` keeps no positions. This reads text that `tomllib` has accepted, so it
need not judge the syntax, only find its way: tables, arrays of tables, dotted
and quoted keys, inline tables, strings and arrays over several lines.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping

KeyPath = tuple[str, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")'  # up to two quotes may stand before the closing three
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]*")


def key_lines(text: str) -> Mapping[KeyPath, int]:
    """Return the line (from 1) on which each table and key first appears.

    Entries of arrays are keys too, numbered from "0".

    Args:
        text: TOML that `tomllib` accepts.
    """
    scanner = _Scanner(text)
    scanner.scan()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted_to = 0
        self._line = 1
        self._array_tables: dict[KeyPath, int] = {}
        self.lines: dict[KeyPath, int] = {}

    def scan(self) -> None:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._assignment(table)
            self._skip(_BLANK)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:  # cannot happen in accepted TOML; moving on beats looping for ever
            self._at += 1
            return ""
        self._at = match.end()
        return match.group()

    def _note(self, path: KeyPath) -> None:
        self._line += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], self._line)

    def _header(self) -> KeyPath:
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        path = self._within_arrays(self._key(), is_array)
        self._note(path)
        self._at += 2 if is_array else 1
        return path

    def _within_arrays(self, key: KeyPath, is_array: bool) -> KeyPath:
        """Put the number of the current entry behind each array of tables in the key."""
        if is_array:
            self._array_tables[key] = self._array_tables.get(key, -1) + 1
        path: KeyPath = ()
        for length in range(1, len(key) + 1):
            path += (key[length - 1],)
            if key[:length] in self._array_tables:
                path += (str(self._array_tables[key[:length]]),)
        return path

    def _key(self) -> KeyPath:
        parts = []
        while True:
            self._skip(_SPACE)
            parts.append(self._key_part())
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return tuple(parts)
            self._at += 1

    def _key_part(self) -> str:
        if not self._text.startswith(('"', "'"), self._at):
            return self._skip(_BARE_KEY)
        quoted = self._skip(_STRING)
        # The quoted part is a whole TOML string by itself; its escapes are tomllib's business.
        return str(tomllib.loads(f"key = {quoted}")["key"])

    def _assignment(self, table: KeyPath) -> None:
        path = table + self._key()
        self._note(path)
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        first = self._text[self._at : self._at + 1]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        elif first in {'"', "'"}:
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        for number, _ in enumerate(self._members("]")):
            entry = (*path, str(number))
            self._note(entry)
            self._value(entry)

    def _inline_table(self, path: KeyPath) -> None:
        for _ in self._members("}"):
            self._assignment(path)

    def _members(self, closing: str) -> Iterator[None]:
        """Stop at the start of each member; the caller reads it before asking for the next."""
        self._at += 1  # the opening bracket
        while self._at < len(self._text):
            self._skip(_BLANK)
            if self._text.startswith(closing, self._at):
                self._at += 1
                return
            yield
            self._skip(_BLANK)
            if self._text.startswith(",", self._at):
                self._at += 1
