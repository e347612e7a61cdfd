"""Writes `docs/events.md` from the event classes, so that the page cannot grow old.

`python -m mailferry.telemetry.reference > docs/events.md` renews it.
"""

from __future__ import annotations

import ast
import inspect
import sys
from dataclasses import fields
from pathlib import Path

from mailferry import events
from mailferry.events import Event
from mailferry.telemetry.events import is_time_field

_HEAD = """\
# Events

This page is made from `daemon/mailferry/events/`; renew it with
`python -m mailferry.telemetry.reference > docs/events.md`.

Everything that happens is one log line with a name of the form `noun.verb_past`.
Names and fields are stable: alerts may be built on them. Levels: `info` is an
outcome, `warning` will be tried again, `error` needs a person, `debug` is detail.

In JSON each line is one object. It begins with `ts` (ISO 8601, UTC), `level` and
`event`; the fields follow in the order below. Fields that end in `_at`, and
`not_before`, are ISO 8601 times, `null` for none. Fields that end in `_seconds`
are numbers of seconds, those that end in `_octets` numbers of octets. Text from
outside is cleaned: control characters and bidirectional overrides are shown as
`\\xNN` or `\\uNNNN`, strings end after 2,000 characters, secrets are `***`. On a
terminal the same fields are printed as `key=value`, empty ones left out; lines of
`wire.traced` come there as `<time> <peer>#<session> send: <text>`, to be read
as a dialogue.

What libraries report through Python's own logging, at `warning` and above,
comes as the event `python.logged` with the fields `logger` and `message`, and
`held_back`, the number of the same that came within ten minutes and were not
logged. A
traceback is in the field `exception` and never holds local variables.

A trouble that goes on is told once in full, and what is the same within the next ten
minutes is counted: `event.repeated` tells how often. Events of this kind have a note
below that says which fields make two the same; digits in them do not count. What is
about a single message that needs a person (`message.rejected`, `message.in_doubt`,
`message.quarantined`) is always told, and with `log_level = "debug"` everything is.

| Event | Level | Meaning |
|---|---|---|
"""


_ORDER = ("life", "polls", "messages", "peers", "etrn", "ledger", "hands")
"""The modules of `mailferry.events`, in the order of the page."""


def event_classes() -> list[type[Event]]:
    """Return every event that has a name, in the order of the page."""
    kinds = [
        kind
        for kind in vars(events).values()
        if inspect.isclass(kind) and issubclass(kind, Event) and "name" in vars(kind) and kind.name
    ]
    return sorted(kinds, key=lambda kind: _ORDER.index(kind.__module__.rpartition(".")[2]))


def events_markdown() -> str:
    """Return the text of `docs/events.md`."""
    kinds = event_classes()
    notes = _field_notes()
    rows = [f"| [`{kind.name}`](#{_anchor(kind.name)}) | {kind.level} | {_summary(kind)} |" for kind in kinds]
    sections = [_section(kind, notes) for kind in kinds]
    return _HEAD + "\n".join(rows) + "\n\n" + "\n\n".join(sections) + "\n"


def _anchor(name: str) -> str:
    return name.replace(".", "")


def _summary(kind: type[Event]) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0].replace("|", "\\|")


def _section(kind: type[Event], notes: dict[tuple[str, str], str]) -> str:
    lines = [f"## {kind.name}", "", f"{kind.level}: {inspect.getdoc(kind)}"]
    if kind.alike:
        names = ", ".join(f"`{name}`" for name in kind.alike)
        lines += ["", f"Told once in ten minutes for the same {names}."]
    if fields(kind):
        lines += ["", "| Field | Type | Note |", "|---|---|---|"]
    for field in fields(kind):
        note = next(
            (
                notes[base.__name__, field.name]
                for base in kind.__mro__
                if (base.__name__, field.name) in notes
            ),
            "",
        )
        lines.append(f"| `{field.name}` | {_printed_type(field.name, str(field.type))} | {note} |")
    return "\n".join(lines)


def _printed_type(name: str, annotation: str) -> str:
    if is_time_field(name):
        return "time"
    if annotation.startswith("Literal["):
        return annotation.removeprefix("Literal[").removesuffix("]").replace("'", "`").replace(", ", " or ")
    return {"str": "text", "int": "number", "float": "number", "bool": "true or false"}.get(
        annotation, annotation
    )


def _field_notes() -> dict[tuple[str, str], str]:
    """Find the strings under fields, which Python does not keep: (class, field) -> text."""
    modules = sorted(Path(events.__file__).parent.glob("*.py"))
    return {
        (kind.name, field.target.id): " ".join(note.value.value.split()).replace("|", "\\|")
        for module in modules
        for kind in ast.parse(module.read_text(encoding="utf-8")).body
        if isinstance(kind, ast.ClassDef)
        for field, note in zip(kind.body, kind.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(note, ast.Expr)
        and isinstance(note.value, ast.Constant)
        and isinstance(note.value.value, str)
    }


if __name__ == "__main__":
    sys.stdout.write(events_markdown())
