"""Text can be read on its ground, in daylight and in the dark (WCAG 2.2, 1.4.3 and 1.4.11)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mailferry.web.page

SHEET = (Path(mailferry.web.page.__file__).parent / "static" / "page.css").read_text()
TEXT = 4.5
SHAPES = 3.0
PAIRS = [
    *[(ink, ground, TEXT) for ink in ("ink", "soft", "link") for ground in ("paper", "card")],
    *[(tone, f"{tone}-paper", TEXT) for tone in ("good", "warn", "bad", "quiet")],
    *[(tone, "card", TEXT) for tone in ("good", "warn", "bad", "quiet")],
    ("ink", "quiet-paper", TEXT),
    ("on-fill", "fill", TEXT),
    *[(shape, "card", SHAPES) for shape in ("up", "down", "field")],
]


def palettes() -> dict[str, dict[str, str]]:
    light, dark = re.findall(r":root \{(.*?)\}", SHEET, re.DOTALL)
    found = {"light": dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", light))}
    found["dark"] = found["light"] | dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", dark))
    return found


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("ink", "ground", "least"), PAIRS)
def test_contrast(scheme: str, ink: str, ground: str, least: float) -> None:
    palette = palettes()[scheme]
    assert contrast(palette[ink], palette[ground]) >= least


def test_both_palettes_name_the_same_colours() -> None:
    light, dark = (
        set(re.findall(r"--([a-z-]+):", block)) for block in re.findall(r":root \{(.*?)\}", SHEET, re.DOTALL)
    )
    assert light == dark
    assert {ink for pair in PAIRS for ink in pair[:2]} <= light


def test_colours_stand_at_the_top_only() -> None:
    rest = re.sub(r":root \{.*?\}", "", SHEET, flags=re.DOTALL)
    assert not re.search(r"#[0-9a-f]{3,8}\b|rgb\(|hsl\(", rest)


def test_the_arithmetic() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
