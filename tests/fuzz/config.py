"""The configuration loader: any files, any variables.

An input is the main file, a drop-in, and variables (`NAME=value`, one a line);
`@SECRET@` in it stands for a password. The files lie in a temporary folder with
a few secrets beside them.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import tomllib
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from fuzz.harness import SEPARATOR, Harness
from mailferry.config import Settings, load_settings
from mailferry.config.key_lines import key_lines
from mailferry.errors import ConfigError

_SECRET = "Hunter2-c0rrect"  # invented
_MARK = b"@SECRET@"
_SAMPLE = Path(__file__).parents[2] / "config" / "mailferry.toml"


@cache
def _folder() -> Path:
    """Make the folder, once a process."""
    folder = Path(tempfile.mkdtemp(prefix="mailferry-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "secrets").mkdir()
    (folder / "conf.d").mkdir()
    for name in ("alice", "relay"):
        path = folder / "secrets" / name
        path.touch(mode=0o600)
        path.write_text(_SECRET + "\n")
    (folder / "sample.toml").write_bytes(_SAMPLE.read_bytes())
    return folder


def check(data: bytes) -> None:
    main, drop_in, variables = (*data.replace(_MARK, _SECRET.encode()).split(SEPARATOR), b"", b"")[:3]
    folder = _folder()
    path, more = folder / "mailferry.toml", folder / "conf.d" / "more.toml"
    path.write_bytes(main)
    more.write_bytes(drop_in)
    environ = _environ(variables)
    try:
        settings = load_settings(path, environ=environ)
    except ConfigError as error:
        _check_error(
            error, _names(main, drop_in, environ), {str(path), str(more), str(more.parent), *environ}
        )
    else:
        assert isinstance(settings, Settings)
        assert settings.maildrop or settings.etrn
        assert _SECRET not in repr(settings) or _is_shown_lawfully(main, drop_in, environ)
    _check_lines(main)


def _environ(variables: bytes) -> dict[str, str]:
    """Variables as the system would hand them over: no NUL, no empty name."""
    pairs = (line.partition("=") for line in variables.decode("utf-8", "surrogateescape").split("\n"))
    return {name: value for name, equals, value in pairs if name and equals and "\0" not in name + value}


def _check_error(error: ConfigError, names: str, places: set[str]) -> None:
    assert error.problems
    shown = str(error)
    for problem in error.problems:
        assert (
            problem.file in places
            or problem.file.startswith("MAILFERRY_")
            or problem.file == "STATE_DIRECTORY"
        )
        assert problem.problem
        assert problem.line is None or problem.line >= 1
        assert str(problem).isprintable()
        assert len(problem.problem) < 4000
    link: BaseException | None = error
    while link is not None:
        shown += str(link) + repr(link) + repr(link.args) + repr(getattr(link, "__dict__", {}))
        link = link.__cause__ or link.__context__
    shown += "".join(traceback.format_exception(error))
    if _SECRET.lower() not in names.lower():
        assert _SECRET.lower() not in shown.lower()


def _names(main: bytes, drop_in: bytes, environ: dict[str, str]) -> str:
    """Return the names of all keys and variables, which messages may show."""
    return "\n".join([*_keys(_tables(main)), *_keys(_tables(drop_in)), *environ])


def _is_shown_lawfully(main: bytes, drop_in: bytes, environ: dict[str, str]) -> bool:
    """Whether the password stands where no password belongs, so that settings show it."""
    return any(_SECRET in text for text in (main.decode(), drop_in.decode(), *environ.values()))


def _tables(text: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(text.decode())
    except (ValueError, RecursionError):
        return {}


def _keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from map(str, value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for entry in inner:
        yield from _keys(entry)


def _check_lines(main: bytes) -> None:
    """Every key of accepted TOML is found, on a line that there is."""
    tables = _tables(main)
    if not tables:
        return
    text = main.decode()
    lines = key_lines(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
    for path in _paths(tables):
        assert path in lines, path


def _paths(value: object, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, entry in entries:
        yield (*above, str(key))
        yield from _paths(entry, (*above, str(key)))


_HARNESS = Harness(
    name="config",
    check=check,
    tokens=(
        b"[daemon]\n", b"[http]\n", b"[ledger]\n", b"[defaults]\n", b"[notice]\n", b"[maildrop.a]\n", b"[destination.b]\n",
        b"[etrn.c]\n", b"[[maildrop.a]]\n", b"[maildrop]\n", b"host = ", b"port = ", b"tls = ", b"username = ", b"password = ",
        b'"@SECRET@"', b'{ file = "secrets/alice" }', b'{ env = "X" }', b'{ command = ["true"] }', b'{ credential = "x" }', b'"5m"',
        b"every = ", b"cron = ", b'"*/5 * * * *"', b"keep = ", b"deliver = ", b'["b"]', b"recipients = ", b'["a@b.org"]', b"sender = ",
        b"type = ", b'"maildir"', b"path = ", b"enabled = ", b"true", b"false", b"max_size = ", b'"50M"', b"nodes = ", b"url = ", b"listen = ",
        b"0", b"-1", b"1e999", b"nan", b"inf", b"0x1F", b"1979-05-27T07:32:00Z", b"07:32:00", b'"""', b"'''", b"\\u0000", b"\\U0010FFFF",
        b"\\uD800", b'"', b"'", b"[", b"]", b"{", b"}", b"=", b".", b",", b"#", b"\n", b"\r\n", b"\xef\xbb\xbf", b"\xff", b"\0", SEPARATOR,
        b"MAILFERRY_MAILDROP__A__HOST=", b"MAILFERRY_DAEMON__STATE_DIR=", b"STATE_DIRECTORY=/x", b"MAILFERRY_", b"__", b"MAILFERRY_CONFIG=",
        b"oauth2_token = ", b"tls_certificate = ", b"tls_key = ", b"auth = ", b'"external"', b'"oauthbearer"', b"max_hops = ", b"rejected = ", b"spool_threshold = ", b"memory_budget = ", b"hostname = ", b"oversize = ", b"every",
    ),
    max_octets=6000,
    modules=tuple(
        f"config/{module}.py" for module in (
            "across", "cron", "destination", "etrn", "files", "key_lines", "kinds", "layers", "loading", "logins", "maildrop", "models",
            "network_kinds", "problems", "secrets", "units",
        )
    ),
)  # fmt: skip

HARNESSES = (_HARNESS,)
