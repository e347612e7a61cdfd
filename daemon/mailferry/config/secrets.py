"""Secrets: the configuration says where one lies, never what it is.

A secret that is in use is looked at when the configuration is loaded, so that a
missing file is known before the first poll, and read again each time it is used,
so that a rotated password needs no restart. Texts for the administrator never repeat
what stands in the configuration's place: it may be the password itself, put
into the wrong key.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, Protocol

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from mailferry.config.command import run_for_secret
from mailferry.config.kinds import Refused
from mailferry.errors import SecretError

_LARGEST_SECRET_OCTETS = 64 << 10

SOURCES_HELP = (
    'must say where the secret lies, not what it is: { file = "/path" }, { env = "VARIABLE" }, '
    '{ credential = "name" } (systemd) or { command = ["program", "argument"] }'
)


_SCHEMA_TEXT = {"type": "string", "minLength": 1}
SECRET_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "type": "object",
        "properties": {
            "file": _SCHEMA_TEXT,
            "env": _SCHEMA_TEXT,
            "credential": _SCHEMA_TEXT,
            "command": {
                "anyOf": [_SCHEMA_TEXT, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
            },
        },
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
)


class SecretSource(Protocol):
    """A place that holds a secret."""

    @property
    def place(self) -> str:
        """Name the place for people, without anything secret."""

    def check(self) -> None:
        """Look whether a later read can work. Raises `SecretError`."""

    def read(self) -> str:
        """Return what lies there. Raises `SecretError`, whose text lacks the place."""

    def changed_at(self) -> float | None:
        """Return when it was last written to; None if that cannot be told."""


@dataclass(frozen=True, slots=True)
class _FileSource:
    path: Path
    guarded: bool
    """True where the platform guards the directory (systemd, containers) and modes say little."""
    label: str = "file"
    written: str = field(default="", compare=False)
    """The path as the configuration has it, where it cannot be a secret in the wrong place."""
    base: Path | None = field(default=None, compare=False)
    """From where a relative path counts."""

    @property
    def place(self) -> str:
        return f"{self.label} {self.path}"

    def check(self) -> None:
        try:
            _one_line(self._octets())
        except OSError as error:
            raise SecretError(f"{self._named()}{_reason(error)}{self._hint(error)}") from None

    def read(self) -> str:
        try:
            return _one_line(self._octets())
        except OSError as error:
            raise SecretError(_reason(error)) from None

    def changed_at(self) -> float | None:
        if self.guarded:  # written anew at every start, changed or not
            return None
        try:
            return self.path.stat().st_mtime
        except OSError:
            return None

    def _named(self) -> str:
        """Name the path only when its folder is there: `{ file = "the password itself" }` stays unsaid."""
        parts = Path(self.written).parts
        in_a_folder = len(parts) > 2 or (len(parts) == 2 and self.base is not None)
        is_path = in_a_folder and os.path.isdir(self.path.parent)  # noqa: PTH112 - this one never raises
        return f'"{self.written}" ' if is_path else ""

    def _hint(self, error: OSError) -> str:
        if self.base is None or not isinstance(error, FileNotFoundError):
            return ""
        return (
            f" in {self.base}; a relative path counts from the configuration file's directory "
            "(in a variable: from the working directory)"
        )

    def _octets(self) -> bytes:
        # O_NONBLOCK: a FIFO must not hang the daemon before it is found out to be one.
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, so that mode and content are one file's
            self._check_mode(os.fstat(descriptor).st_mode)
            return file.read(_LARGEST_SECRET_OCTETS + 1)

    def _check_mode(self, mode: int) -> None:
        if not stat.S_ISREG(mode):
            raise SecretError("is not a regular file")
        if mode & 0o077 and not self.guarded:
            permissions = f"{stat.S_IMODE(mode):04o}"
            raise SecretError(f"can be read by group or others (mode {permissions}); make it 0600 or 0400")


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, PermissionError):
        return "cannot be read: permission denied; the daemon's user must be able to read it"
    return f"cannot be read: {error.strerror}"


@dataclass(frozen=True, slots=True)
class _UnfoundCredential:
    """A credential outside of a unit that passes any."""

    name: str

    @property
    def place(self) -> str:
        return f"credential {self.name}"

    def check(self) -> None:
        self.read()

    def read(self) -> str:
        raise SecretError(
            "cannot be found: $CREDENTIALS_DIRECTORY is not set; "
            "the systemd unit needs LoadCredential= or LoadCredentialEncrypted="
        )

    def changed_at(self) -> None:
        return None


@dataclass(frozen=True, slots=True)
class _EnvSource:
    name: str
    environ: Mapping[str, str] = field(repr=False)  # holds the secrets of all others too

    @property
    def place(self) -> str:
        return f"environment variable {self.name}"

    def check(self) -> None:
        self.read()

    def read(self) -> str:
        if self.name not in self.environ:
            raise SecretError("is not set")
        return _one_line(self.environ[self.name].encode("utf-8", "surrogateescape"))

    def changed_at(self) -> None:
        return None


@dataclass(frozen=True, slots=True)
class _CommandSource:
    argv: tuple[str, ...]

    @property
    def place(self) -> str:
        # Arguments stay out: some administrators put passwords there.
        return f"command {self.argv[0]}"

    def check(self) -> None:
        if shutil.which(self.argv[0]) is None:
            raise SecretError("is no program that can be run")

    def read(self) -> str:
        return _one_line(run_for_secret(self.argv, _LARGEST_SECRET_OCTETS))

    def changed_at(self) -> None:
        return None


def _one_line(raw: bytes) -> str:
    if len(raw) > _LARGEST_SECRET_OCTETS:
        raise SecretError(f"holds more than {_LARGEST_SECRET_OCTETS} octets")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        # `from None`: the decoder's error carries the octets.
        raise SecretError("does not hold UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise SecretError("is empty")
    if any(character in text for character in "\r\n\0"):
        # It would become a second command on the wire.
        raise SecretError("holds more than one line, or a NUL")
    return text


class Secret:
    """A password or token that is fetched when it is needed and never shown.

    `reveal` may block: a file on a slow disk, a command for up to 10 seconds.
    Call it in a worker thread. Two secrets are equal when they lie at the same place.
    """

    __slots__ = ("_noun", "_source")

    def __init__(self, source: SecretSource, noun: str) -> None:
        self._source = source
        self._noun = noun

    @classmethod
    def from_table(cls, value: object, *, base: Path, environ: Mapping[str, str]) -> Secret:
        """Make a secret from `{ file = … }` and its kin, without looking whether it is there.

        Args:
            value: what stands in the configuration.
            base: the directory from which a relative path counts.
            environ: the environment.

        Raises:
            ValueError: it is malformed; the text does not repeat it.
        """
        word, where = _one_source(value)
        return cls(_SOURCES[word](where, base, environ), _PLACES[word])

    def check(self) -> None:
        """Look whether it is there; a command is looked for and not run.

        Raises:
            ValueError: it is not, or cannot be used; the text names no secret.
        """
        try:
            self._source.check()
        except SecretError as error:
            raise ValueError(f"{self._noun} {error}") from None

    @property
    def place(self) -> str:
        """Where the secret lies, for people."""
        return self._source.place

    def reveal(self) -> str:
        """Fetch the secret, without the newline at its end.

        Raises:
            SecretError: it is not there any more; the text names the place only.
        """
        try:
            return self._source.read()
        except SecretError as error:
            raise SecretError(f"{self.place} {error}") from None

    @property
    def file(self) -> Path | None:
        """The file that it lies in, if it lies in one."""
        return self._source.path if isinstance(self._source, _FileSource) else None

    def changed_at(self) -> float | None:
        """Return when its file was last written to, in seconds since the epoch; None if that cannot be told."""
        return self._source.changed_at()

    def __repr__(self) -> str:
        return "Secret(**********)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._source == other._source

    def __hash__(self) -> int:
        return hash(self.place)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        # A pickled environment would hold every secret in it.
        raise TypeError("a Secret cannot be pickled")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _validate, serialization=core_schema.plain_serializer_function_ser_schema(repr)
        )


def _validate(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, Refused):
        raise ValueError(value.reason)  # noqa: TRY004 - pydantic collects ValueError only
    secret = Secret.from_table(value, base=Path.cwd(), environ=os.environ)
    secret.check()
    return secret


def _one_source(value: object) -> tuple[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(SOURCES_HELP)  # noqa: TRY004 - as above
    if len(value) != 1 or not set(value) <= set(_SOURCES):
        raise ValueError(f"{SOURCES_HELP}; exactly one of them")
    return next(iter(value.items()))


def _source_text(value: object, word: str) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f'"{word}" must be text in quotes, not empty and without control characters')
    return str(value)


def _file(value: object, base: Path, environ: Mapping[str, str]) -> SecretSource:
    written = _source_text(value, "file")
    path = base / written
    relative_to = None if Path(written).is_absolute() else base
    return _FileSource(path, guarded=_is_guarded(path, environ), written=written, base=relative_to)


def _is_guarded(path: Path, environ: Mapping[str, str]) -> bool:
    guarded = [Path("/run/secrets")]
    if environ.get("CREDENTIALS_DIRECTORY"):
        guarded.append(Path(environ["CREDENTIALS_DIRECTORY"]))
    resolved = _resolved(path)
    return any(resolved.is_relative_to(_resolved(directory)) for directory in guarded)


def _resolved(path: Path) -> Path:
    # Path.resolve raises RuntimeError at links in a circle; opening the file says what is wrong with it.
    return Path(os.path.realpath(path))


def _env(value: object, _base: Path, environ: Mapping[str, str]) -> SecretSource:
    return _EnvSource(_source_text(value, "env"), environ)


def _credential(value: object, _base: Path, environ: Mapping[str, str]) -> SecretSource:
    name = _source_text(value, "credential")
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if "/" in name or name in {".", ".."}:
        raise ValueError('"credential" must be a plain name, as LoadCredential= in the systemd unit has it')
    if not directory:
        return _UnfoundCredential(name)
    return _FileSource(Path(directory) / name, guarded=True, label="credential")


def _command(value: object, _base: Path, _environ: Mapping[str, str]) -> SecretSource:
    help_text = '"command" must be a list such as ["program", "argument"], or one text that is split like a shell would'
    try:
        argv = shlex.split(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(f"{help_text}; a quote or backslash in it is left open") from None
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        raise ValueError(help_text)
    if not argv[0] or any("\0" in word for word in argv):
        raise ValueError(help_text)
    return _CommandSource(tuple(str(word) for word in argv))


_Maker = Callable[[object, Path, Mapping[str, str]], SecretSource]
_SOURCES: Mapping[str, _Maker] = MappingProxyType(
    {"file": _file, "env": _env, "credential": _credential, "command": _command}
)
_PLACES: Mapping[str, str] = MappingProxyType(
    {
        "file": "the file of the secret",
        "env": "the environment variable of the secret",
        "credential": "the credential",
        "command": "the command for the secret",
    }
)
