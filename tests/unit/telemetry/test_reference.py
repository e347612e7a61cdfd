from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from mailferry.telemetry.reference import event_classes, events_markdown


def test_the_page_is_current() -> None:
    page = Path(__file__).parents[3] / "docs" / "events.md"
    assert page.read_text(encoding="utf-8") == events_markdown(), (
        "renew it: python -m mailferry.telemetry.reference > docs/events.md"
    )


def test_every_event_and_field_is_described() -> None:
    text = events_markdown()
    for kind in event_classes():
        section = text.partition(f"\n## {kind.name}\n")[2].partition("\n## ")[0]
        assert kind.level in section
        for field in fields(kind):
            assert f"| `{field.name}` |" in section


def test_notes_beside_fields_are_in_the_page_also_for_inherited_ones() -> None:
    text = events_markdown()
    assert "| `age_seconds` | number | From the fetch to the acceptance. |" in text
    assert "| `not_before` | time |" in text
    assert "| `direction` | `send` or `reply` or `note` |" in text


def test_classes_without_a_name_are_no_events() -> None:
    assert {"Event", "MessageEvent"}.isdisjoint(kind.__name__ for kind in event_classes())
    assert len(event_classes()) >= 22
