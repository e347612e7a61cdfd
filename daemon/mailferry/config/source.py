"""Where the configuration comes from, for whoever reads it more than once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mailferry.config.loading import config_path, load_settings
from mailferry.config.models import Settings
from mailferry.config.stamps import Stamp, stamp


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """A main file with its drop-ins, and the environment of the start; both methods block."""

    path: Path | None
    environ: Mapping[str, str] = field(repr=False)

    def load(self) -> Settings:
        """Read, merge and check the whole configuration, secrets included.

        Raises:
            ConfigError: with all problems.
        """
        return load_settings(self.path, environ=self.environ)

    def fingerprint(self) -> tuple[tuple[str, Stamp], ...]:
        """Return a value that is another one when a file was written, added or removed."""
        main = config_path(self.path, self.environ)
        folder = main.parent / "conf.d"
        try:
            drop_ins = sorted(each for each in folder.iterdir() if each.suffix == ".toml")
        except OSError:
            drop_ins = []
        return tuple((str(each), stamp(each)) for each in (main, folder, *drop_ins))
