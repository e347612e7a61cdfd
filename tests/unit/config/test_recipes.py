"""Every recipe of the manual is a configuration that is accepted as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailferry.config import load_settings

TEXT = (Path(__file__).parents[3] / "docs" / "recipes.md").read_text("utf-8")
RECIPES = dict(re.findall(r"^## (.+?)$[^`]*?```toml\n(.*?)```", TEXT, re.MULTILINE | re.DOTALL))


def test_all_recipes_were_found() -> None:
    assert len(RECIPES) == TEXT.count("```toml")


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_is_accepted(recipe: str, tmp_path: Path) -> None:
    for name in re.findall(r'file = "(.*?)"', RECIPES[recipe]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("an invented password\n", "utf-8")
        (tmp_path / name).chmod(0o600)
    config = tmp_path / "mailferry.toml"
    config.write_text(RECIPES[recipe], "utf-8")
    settings = load_settings(config, environ={})
    assert settings.maildrop or settings.etrn
    used = {name for each in settings.maildrop.values() for name in each.deliver} | {
        *settings.receiver.deliver
    }
    assert used == set(settings.destination)
