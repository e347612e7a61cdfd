"""The alert rules, their tests, the run-books and the dashboard speak of the same things, and of things that are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from mailferry.telemetry.metrics import Metrics
from support.prometheus import DASHBOARD, ROOT, RULE_TESTS, RULES, alerts, dashboard_queries, metrics_in

RUNBOOKS = ROOT / "docs" / "runbooks.md"
MOST_BACKQUOTED_CHARACTERS = 200


@pytest.fixture
def families() -> Iterator[set[str]]:
    """The names of all series that the daemon has."""
    registry = CollectorRegistry()
    Metrics(registry, maildrops=["a"], destinations=["b"], etrn_nodes=[("c", "d")], version="1")
    yield set(re.findall(r"^# TYPE (mailferry_\w+) ", generate_latest(registry).decode(), re.MULTILINE))
    prometheus_client.enable_created_metrics()  # type: ignore[no-untyped-call]


def expressions() -> str:
    """The rules without their texts for people."""
    text = RULES.read_text(encoding="utf-8")
    return re.sub(r"^ +(summary|description|runbook_url|#).*$", "", text, flags=re.MULTILINE)


def test_the_rules_ask_for_series_that_are(families: set[str]) -> None:
    asked = metrics_in(expressions())
    assert len(asked) > 20
    assert asked <= families


def test_the_dashboard_asks_for_series_that_are(families: set[str]) -> None:
    asked = set().union(*(metrics_in(query) for _, query in dashboard_queries()))
    assert len(asked) > 30
    assert asked <= families


@pytest.mark.parametrize("path", [RUNBOOKS, ROOT / "docs" / "metrics.md"], ids=lambda path: path.name)
def test_pages_name_series_that_are(families: set[str], path: Path) -> None:
    assert metrics_in(path.read_text(encoding="utf-8")) <= families


def test_each_alert_has_a_section_in_the_run_books_and_a_link_to_it() -> None:
    sections = re.findall(r"^## (Mailferry\w+)$", RUNBOOKS.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(sections) == sorted(alerts())
    links = re.findall(r"runbook_url: (\S+)$", RULES.read_text(encoding="utf-8"), re.MULTILINE)
    assert links == [f"docs/runbooks.md#{name.lower()}" for name in alerts()]


def test_each_section_says_what_it_means_how_to_look_and_what_to_do() -> None:
    for section in RUNBOOKS.read_text(encoding="utf-8").split("\n## Mailferry")[1:]:
        for word in ("**Means** ", "**Look** ", "**Do**"):
            assert word in section, section.partition("\n")[0]


def test_the_run_books_list_each_alert_under_its_severity() -> None:
    rules = RULES.read_text(encoding="utf-8")
    listed = re.findall(
        r"^\| (critical|warning|info) \| (.*) \|$", RUNBOOKS.read_text(encoding="utf-8"), re.MULTILINE
    )
    found = {name: severity for severity, names in listed for name in re.findall(r"\[(\w+)\]", names)}
    severities = re.findall(r"- alert: (\w+)\n(?:.*\n)*? +severity: (\w+)$", rules, re.MULTILINE)
    assert found == dict(severities)


def test_each_alert_is_tried() -> None:
    tried = RULE_TESTS.read_text(encoding="utf-8")
    assert [name for name in alerts() if name not in tried] == []


def test_links_from_the_run_books_lead_somewhere() -> None:
    for page, anchor in re.findall(r"\]\(([\w./-]+\.md)?#([\w-]+)\)", RUNBOOKS.read_text(encoding="utf-8")):
        text = (RUNBOOKS.parent / page if page else RUNBOOKS).read_text(encoding="utf-8")
        anchors = {
            re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
            for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        }
        assert anchor in anchors, (page, anchor)


def test_the_dashboard_has_its_variables_and_no_two_panels_in_one_place() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    names = [each["name"] for each in dashboard["templating"]["list"]]
    assert names == ["datasource", "instance", "maildrop", "destination"]
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + column, place["y"] + line)
            for column in range(place["w"])
            for line in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    identifiers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identifiers)) == len(identifiers)
