"""Prometheus's own tool reads our metrics and has nothing to say against them."""

from __future__ import annotations

import re
import subprocess

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mailferry.telemetry.metrics import Metrics
from support.processes import require

pytestmark = pytest.mark.real_server


def test_promtool_has_nothing_to_say() -> None:
    promtool = require("promtool")
    registry = CollectorRegistry()
    Metrics(
        registry, maildrops=["alice"], destinations=["office"], etrn_nodes=[("a", "example.org")], version="1"
    )
    only_ours = b"".join(
        line
        for line in generate_latest(registry).splitlines(keepends=True)
        if re.match(rb"(# (HELP|TYPE) )?mailferry_", line)
    )
    answer = subprocess.run(
        [promtool, "check", "metrics"], input=only_ours, capture_output=True, timeout=20, check=False
    )
    assert (answer.returncode, answer.stdout + answer.stderr) == (0, b"")
