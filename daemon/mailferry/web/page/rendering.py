"""From values to HTML. Whatever a template puts out is cleaned and escaped here, and nothing goes around it.

Jinja2 escapes by itself; before that every text loses what could steer a screen (control
characters, marks that turn the direction of writing) by the `clean` that the caller hands in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mailferry.message.received import message_name
from mailferry.web.page import day_picture
from mailferry.web.page.words import DELIVERY_TONES, error_words, message_state
from mailferry.wording import ago, counted, local_time, span

_HERE = Path(__file__).parent
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_SHORT_UNITS = ("B", "kB", "MB", "GB", "TB")

Clean = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of our own; its address changes with its content, so it may be kept for ever."""

    path: str
    body: bytes
    content_type: str


class Renderer:
    """Renders the templates beside this module. Every method may be called in any thread."""

    def __init__(self, clean: Clean, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._clean = clean

    def render(self, template: str, values: Mapping[str, Any]) -> str:
        """Return a page."""
        return self._environment.get_template(template).render(values, now=self.clock())

    @cached_property
    def assets(self) -> Mapping[str, Asset]:
        """The style sheet, the script and the icon, by their addresses."""
        made = (_asset(path) for path in sorted((_HERE / "static").iterdir()) if path.suffix in _KINDS)
        return {asset.path: asset for asset in made}

    @cached_property
    def _environment(self) -> Environment:
        environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=self._finalize,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        by_name = {path.split("/")[-1].partition(".")[0]: path for path in self.assets}
        environment.globals |= {"asset": by_name}
        environment.filters |= {
            "ago": self._ago,
            "ahead": self._ahead,
            "at": _at,
            "clock": _clock,
            "counted": counted,
            "error_words": error_words,
            "message_state": message_state,
            "delivery_tone": DELIVERY_TONES.__getitem__,
            "octets": octets,
            "picture": day_picture.day_picture,
            "hours": day_picture.hours_of,
            "name": message_name,
            "uidl": lambda uidl: uidl.decode("ascii", "backslashreplace"),
            "thousands": thousands,
        }
        return environment

    def _finalize(self, value: object) -> object:
        if isinstance(value, str) and not isinstance(value, Markup):
            return self._clean(value)
        return value

    def _ago(self, then: float | None, never: str = "never") -> Markup | str:
        return _time(then, ago(then, self.clock())) if then else never

    def _ahead(self, then: float | None, nobody_knows: str = "not known") -> Markup | str:
        if not then:
            return nobody_knows
        left = then - self.clock()
        return _time(then, f"in {span(left)}" if left > 0 else "now")


def _at(then: float) -> Markup:
    return _time(then, f"{local_time(then)} {_offset(then)}")


def _clock(then: float) -> str:
    return datetime.fromtimestamp(then).astimezone().strftime("%H:%M")


def _offset(then: float) -> str:
    return datetime.fromtimestamp(then).astimezone().strftime("%z")


def _time(then: float, words: str) -> Markup:
    exact = datetime.fromtimestamp(then, UTC).isoformat(timespec="seconds")
    shown = f"{local_time(then)} {_offset(then)}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, shown, words)


def octets(number: float) -> str:
    """Say a size: 4 kB, 1.5 MB."""
    for unit in _SHORT_UNITS:
        if number < 1000 or unit == _SHORT_UNITS[-1]:
            return f"{number:.0f} {unit}" if number >= 10 or unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError


def thousands(number: int) -> str:
    """Write a number with thin spaces between thousands."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _asset(file: Path) -> Asset:
    body = file.read_bytes()
    digest = hashlib.sha256(body).hexdigest()[:16]
    return Asset(f"/static/{digest}/{file.name}", body, _KINDS[file.suffix])
