"""Configuration files: the main one and the drop-ins beside it.

A file that cannot be read or parsed is a problem with its own name on it. The
parser's words are replaced by ours, since some of its messages quote the text.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailferry.config.key_lines import KeyPath, key_lines
from mailferry.errors import ConfigProblem

_LARGEST_FILE_OCTETS = 16 << 20

NAMED_SECTIONS = ("maildrop", "destination", "etrn")
"""Tables of tables; the only ones that a drop-in may hold."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """One file that was read and parsed."""

    path: Path
    text: str = ""
    tables: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The path as messages show it."""
        return str(self.path)


@dataclass(slots=True)
class FileSet:
    """The main file first, then its drop-ins in order, as far as they could be read."""

    main: ConfigFile
    drop_ins: list[ConfigFile] = field(default_factory=list)
    problems: list[ConfigProblem] = field(default_factory=list)
    owners: dict[KeyPath, ConfigFile] = field(default_factory=dict)
    """Which file defines `[section.name]`."""
    _lines: dict[Path, dict[KeyPath, int]] = field(default_factory=dict)

    def line(self, file: ConfigFile, path: KeyPath) -> int | None:
        """Return the line of a key, or of the nearest table around it."""
        if file.path not in self._lines:
            self._lines[file.path] = dict(key_lines(file.text))
        lines = self._lines[file.path]
        return next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)


def read_files(path: Path, *, may_be_absent: bool) -> FileSet:
    """Read the main file and `conf.d/*.toml` beside it; problems are collected."""
    problems: list[ConfigProblem] = []
    main = ConfigFile(path)
    if not (may_be_absent and _is_absent(path)):
        main = _read(path, problems) or main
    files = FileSet(main, problems=problems)
    for drop_in in _drop_in_paths(path.parent / "conf.d", problems):
        if _is_pipe(drop_in):  # a reload would wait for its writer, and so would the end of the daemon
            problems.append(ConfigProblem(str(drop_in), "", "is a named pipe; a file is needed"))
            continue
        file = _read(drop_in, problems)
        if file:
            files.drop_ins.append(file)
    return files


def _is_pipe(path: Path) -> bool:
    try:
        return path.is_fifo()
    except OSError:
        return False  # reading it says why


def _is_absent(path: Path) -> bool:
    try:
        return not path.exists()
    except OSError:
        return False  # reading it says why


def _drop_in_paths(directory: Path, problems: list[ConfigProblem]) -> list[Path]:
    try:
        found = sorted(directory.iterdir())
    except FileNotFoundError:
        return []  # drop-ins are optional
    except OSError as error:
        problems.append(ConfigProblem(str(directory), "", f"cannot be listed: {error.strerror}"))
        return []
    return [path for path in found if path.suffix == ".toml" and not path.name.startswith(".")]


def _read(path: Path, problems: list[ConfigProblem]) -> ConfigFile | None:
    try:
        text = _text(path)
        return ConfigFile(path, text, tomllib.loads(text))
    except OSError as error:
        problem = ConfigProblem(str(path), "", _os_problem(error))
    except tomllib.TOMLDecodeError as error:
        problem = _syntax_problem(path, str(error))
    except ValueError:
        # tomllib lets it out as it comes: Python does not read numbers of any length.
        problem = ConfigProblem(str(path), "", "holds a number of too many digits", _long_number_line(text))
    except RecursionError:
        problem = ConfigProblem(str(path), "", "nests brackets too deeply")
    except _NotTextError as error:
        problem = ConfigProblem(str(path), "", str(error), error.line)
    problems.append(problem)
    return None


class _NotTextError(Exception):
    def __init__(self, problem: str, line: int | None = None) -> None:
        self.line = line
        super().__init__(problem)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(_LARGEST_FILE_OCTETS + 1)
    if len(raw) > _LARGEST_FILE_OCTETS:
        raise _NotTextError(f"is larger than {_LARGEST_FILE_OCTETS >> 20} MiB")
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise _NotTextError("starts with a byte order mark; save it as UTF-8 without one", 1)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        # `from None`: the decoder's error carries the whole file.
        line = raw.count(b"\n", 0, error.start) + 1
        raise _NotTextError("is not UTF-8 text; save it in that encoding", line) from None


def _os_problem(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist; name another file with --config or $MAILFERRY_CONFIG"
    if isinstance(error, IsADirectoryError):
        return "is a directory; a file is needed"
    if isinstance(error, PermissionError):
        return "cannot be read: permission denied; the daemon's user must be able to read it"
    return f"cannot be read: {error.strerror}"


_SYNTAX = (
    ("Expected '=' after a key", "a key must be followed by ="),
    ("Cannot overwrite a value", "this key or table was already set above"),
    ("Cannot declare", "this table was already defined above"),
    ("Cannot redefine", "this table was already defined above"),
    ("Cannot mutate immutable", "a table in braces cannot be added to; write it as a table of its own"),
    ("Duplicate inline table key", "this key stands twice in the table in braces"),
    ("Invalid value", 'the value is not valid; text needs quotes, such as key = "text"'),
    ("Unterminated string", "a quote is not closed"),
    ("Unclosed array", "a bracket [ is not closed"),
    ("Unclosed inline table", "a brace { is not closed"),
    ("Unescaped '\\'", "a backslash in double quotes must be doubled; single quotes take it as it is"),
    ("Illegal character", "a character that may not stand here; a quote may be missing before it"),
    ("Expected newline or end of document", "something is left over after the value; text needs quotes"),
    ("Invalid initial character for a key part", "a key was expected here"),
    ("Invalid statement", "this is neither key = value nor a [table]"),
    ("Expected ']'", "the name of a table must end with ]"),
    ("Expected ']]'", "the name of a table must end with ]]"),
    ("Invalid date or datetime", "this is no valid date; text needs quotes"),
)


_LONG_NUMBER = re.compile(r"[0-9][0-9_]{4300,}")  # Python's limit is 4300 digits


def _long_number_line(text: str) -> int | None:
    found = _LONG_NUMBER.search(text)
    return text.count("\n", 0, found.start()) + 1 if found else None


def _syntax_problem(path: Path, message: str) -> ConfigProblem:
    words = next((ours for theirs, ours in _SYNTAX if message.startswith(theirs)), "this is not valid TOML")
    place = re.search(r"\(at line (\d+), column (\d+)\)$", message)
    if place:
        return ConfigProblem(str(path), "", f"{words} (column {place[2]})", int(place[1]))
    return ConfigProblem(str(path), "", f"{words} (at the end of the file)")


def claim_tables(files: FileSet) -> Iterator[tuple[str, str, Any, ConfigFile]]:
    """Yield each `[section.name]` once, as section, name, value, file; note who defines it.

    What stands twice, or does not belong in a drop-in, becomes a problem.
    """
    for file in (files.main, *files.drop_ins):
        for section, named in file.tables.items():
            if section in NAMED_SECTIONS and isinstance(named, dict):
                for name, value in named.items():
                    if _claim(files, file, (section, name)):
                        yield section, name, value, file
            elif file is not files.main:
                files.problems.append(_misplaced(files, file, section))


def _claim(files: FileSet, file: ConfigFile, path: tuple[str, str]) -> bool:
    owner = files.owners.setdefault(path, file)
    if owner is file:
        return True
    first = f"{owner.name}:{files.line(owner, path)}"
    problem = f"is already defined in {first}; a name can be defined once"
    files.problems.append(ConfigProblem(file.name, ".".join(path), problem, files.line(file, path)))
    return False


def _misplaced(files: FileSet, file: ConfigFile, section: str) -> ConfigProblem:
    allowed = ", ".join(f"[{name}.NAME]" for name in NAMED_SECTIONS)
    problem = f"does not belong in a drop-in, which may hold {allowed}; put it into {files.main.name}"
    return ConfigProblem(file.name, section, problem, files.line(file, (section,)))
