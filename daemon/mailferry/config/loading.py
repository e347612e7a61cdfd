"""From files and environment to settings, or to every problem at once.

All or nothing: `load_settings` returns settings that are valid in every part,
or raises and changes nothing, so a reload with a bad file leaves the running
settings alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from mailferry.config.files import FileSet, read_files
from mailferry.config.layers import CONFIG_VARIABLE, EnvironmentTables, Layer, file_layer, systemd_layer
from mailferry.config.models import Settings, SettingsWithoutSecrets
from mailferry.config.problems import Reporter
from mailferry.errors import ConfigError, ConfigProblem

DEFAULT_PATH = Path("/etc/mailferry/mailferry.toml")


def load_settings(
    path: Path | None = None, *, environ: Mapping[str, str] | None = None, check_secrets: bool = True
) -> Settings:
    """Read, merge and check the whole configuration.

    Args:
        path: the main file; None takes `$MAILFERRY_CONFIG`, else the default path.
            Only the default may be absent, and only when variables define a maildrop.
        environ: the environment; None takes the process's own.
        check_secrets: look whether the secrets are there; False for who logs in nowhere.

    Raises:
        ConfigError: with all problems that were found, in the order of files and lines.
    """
    environ = os.environ if environ is None else environ
    environment = EnvironmentTables(environ)
    files = read_files(
        config_path(path, environ),
        may_be_absent=path is None and CONFIG_VARIABLE not in environ and _defines_maildrop(environment),
    )
    if files.problems:
        # What a broken file would have defined looks missing everywhere else: no guessing.
        raise ConfigError(files.problems + environment.problems)
    return _settings(files, environment, environ, Settings if check_secrets else SettingsWithoutSecrets)


def config_path(path: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the main file's path: the argument, `$MAILFERRY_CONFIG`, or the default."""
    return path or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else DEFAULT_PATH)


def _defines_maildrop(environment: EnvironmentTables) -> bool:
    return bool(environment.tables.get("maildrop"))


def _settings(
    files: FileSet, environment: EnvironmentTables, environ: Mapping[str, str], model: type[Settings]
) -> Settings:
    lowest = systemd_layer(environ)
    layers = (environment.layer(), file_layer(files, environ), lowest)
    problems = files.problems + environment.problems
    try:
        settings = model.from_layers(layers)
    except ValidationError as error:
        reporter = Reporter(files, environment, _origins(lowest))
        problems += reporter.problems(error)
    else:
        problems += _nothing_to_do(settings, files)
        if not problems:
            return settings
    # Outside the handler: pydantic's error must not hang on ours as its context.
    raise ConfigError(_in_order(problems, files))


def _origins(lowest: Layer) -> dict[tuple[str, ...], str]:
    return {("daemon", "state_dir"): "STATE_DIRECTORY"} if lowest.tables else {}


def _nothing_to_do(settings: Settings, files: FileSet) -> list[ConfigProblem]:
    if settings.maildrop or settings.etrn or settings.receiver.listen:
        return []
    return [ConfigProblem(files.main.name, "", "defines no maildrop; add a table such as [maildrop.alice]")]


def _in_order(problems: list[ConfigProblem], files: FileSet) -> list[ConfigProblem]:
    """Sort by file as read, then line; the environment comes last."""
    order = {file.name: number for number, file in enumerate((files.main, *files.drop_ins))}
    return sorted(problems, key=lambda problem: (order.get(problem.file, len(order)), problem.line or 0))
