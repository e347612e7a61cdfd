"""A private Prometheus on loopback, and what stands in our rules and dashboard."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from support.processes import Child, free_port, require

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "mailferry.rules.yml"
RULE_TESTS = ROOT / "deploy" / "prometheus" / "tests" / "mailferry.test.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "mailferry.json"

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_FOR = re.compile(r"^( +for: )(\d+)([smhd])$", re.MULTILINE)
_METRIC = re.compile(r"\bmailferry_\w+")
_NOT_OF_THE_QUERY = re.compile(r'"(?:[^"\\]|\\.)*"')


def alerts() -> list[str]:
    """The names of all alerts."""
    return re.findall(r"^ +- alert: (\w+)$", RULES.read_text(encoding="utf-8"), re.MULTILINE)


def hurried_rules(factor: float) -> str:
    """The rules with every `for:` divided: what takes minutes there takes seconds in a test."""

    def shorter(match: re.Match[str]) -> str:
        seconds = float(match[2]) * _UNITS[match[3]] / factor
        return f"{match[1]}{max(int(seconds * 1000), 1)}ms"

    return _FOR.sub(shorter, RULES.read_text(encoding="utf-8"))


def metrics_in(text: str) -> set[str]:
    """The names of our series in a query; those of histograms without what is put behind them."""
    names = _METRIC.findall(_NOT_OF_THE_QUERY.sub('""', text))
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """Where each query of the dashboard stands, and the query as Grafana sends it with all variables at "All"."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], _filled(target["expr"])
    for variable in dashboard["templating"]["list"]:
        found = re.fullmatch(
            r"label_values\((.*), \w+\)", str(variable["query"] and _text(variable["query"]))
        )
        if found:
            yield f"${variable['name']}", _filled(found[1])


def _text(query: Any) -> str:  # Any: as Grafana writes it
    return str(query["query"]) if isinstance(query, dict) else str(query)


def _filled(query: str) -> str:
    filled = query.replace("$__rate_interval", "15s")
    for name in ("instance", "maildrop", "destination"):
        filled = filled.replace(f"${name}", ".*")
    assert "$" not in filled, query
    return filled


class Prometheus:
    """Prometheus with its data in a folder of the test's; scrapes and evaluates once a second."""

    def __init__(self, folder: Path, target_port: int, rules: str) -> None:
        self._program = require("prometheus")
        self._folder = folder
        self._port = free_port()
        folder.mkdir(parents=True)
        (folder / "rules.yml").write_text(rules, encoding="utf-8")
        self._config = folder / "prometheus.yml"
        self._config.write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
            "rule_files: [rules.yml]\n"
            "scrape_configs:\n"
            f'  - {{job_name: mailferry, static_configs: [{{targets: ["127.0.0.1:{target_port}"]}}]}}\n',
            encoding="utf-8",
        )
        self._child: Child | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        command: Sequence[str | Path] = (
            self._program,
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--log.level=warn",
        )
        self._child = Child(command, self._folder / "output")
        try:
            self._child.wait_ready(self._is_ready, "Prometheus")
        except BaseException:
            self._child.kill()
            raise

    def stop(self) -> None:
        """End it; nothing that it holds is of any use."""
        if self._child is not None:
            self._child.kill()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query."""
        answer = self._get(f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        result: list[dict[str, Any]] = json.loads(answer)["data"]["result"]
        return result

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {each["metric"]["alertname"] for each in self.query('ALERTS{alertstate="firing"}')}

    def _is_ready(self) -> bool:
        try:
            self._get("/-/ready")
        except OSError:
            return False
        return True

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=10) as response:
            text: str = response.read().decode()
            return text
