"""`mailferry run`: the daemon, in the foreground."""

from __future__ import annotations

from mailferry.cli.loop import run_in_loop
from mailferry.cli.options import ConfigOption, settings_from


def run(config: ConfigOption = None) -> None:
    """Run the daemon in the foreground; it logs to stderr.

    SIGTERM or Ctrl-C finishes what is under way and ends it with exit code 0.
    """
    settings = settings_from(config)
    from mailferry.app import Application

    run_in_loop(Application(settings).run())
