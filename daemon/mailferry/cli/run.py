"""`mailferry run`: the daemon, in the foreground."""

from __future__ import annotations

import signal

from mailferry.cli.loop import run_in_loop
from mailferry.cli.options import ConfigOption, source_of
from mailferry.runtime.collector import keep_what_lives, wait_for_start


def run(config: ConfigOption = None) -> None:
    """Run the daemon in the foreground; it logs to stderr.

    SIGTERM or Ctrl-C finishes what is under way and ends it with exit code 0. SIGHUP
    reads the configuration again.
    """
    # By default it would end the process; until the daemon listens there is nothing to read again.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    wait_for_start()
    source = source_of(config)
    settings = source.load()
    from mailferry.app import Application

    application = Application(settings, source=source)
    application.on_ready = keep_what_lives
    run_in_loop(application.run())
