from __future__ import annotations

import io
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest

from mailferry.events import ControlUnavailable, WireTraced
from mailferry.telemetry.events import EventLog
from mailferry.telemetry.logging import LogFormat, configure_logging
from mailferry.telemetry.rendering import ConsoleRenderer


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail_with_a_password_at_hand() -> None:
    password = "hunter2-local"  # noqa: F841 (it is there to be found)
    raise RuntimeError("the session broke")


def test_json_has_time_level_and_event_first_then_the_fields() -> None:
    stream = io.StringIO()
    make = configure_logging(format="json", level="info", stream=stream)
    make(node="a").warning("route.paused", destination="office", failures=3)
    (line,) = lines_of(stream)
    assert list(line) == ["ts", "level", "event", "node", "destination", "failures"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"])
    assert (line["level"], line["event"], line["failures"]) == ("warning", "route.paused", 3)


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_is_the_least_that_is_said(level: str, said: list[str]) -> None:
    stream = io.StringIO()
    logger = configure_logging(format="json", level=level, stream=stream)()
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)("x.happened")
    assert [line["level"] for line in lines_of(stream)] == said


def test_auto_is_console_on_a_terminal_and_json_elsewhere() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    configure_logging(format="auto", level="info", stream=terminal)().info("x.happened", maildrop="alice")
    configure_logging(format="auto", level="info", stream=pipe)().info("x.happened", maildrop="alice")
    assert "\x1b[32minfo" in terminal.getvalue()
    assert lines_of(pipe)[0]["maildrop"] == "alice"


@pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_may_refuse_colours(variable: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*variable)
    terminal = Terminal()
    configure_logging(format="auto", level="info", stream=terminal)().info("x.happened")
    assert "\x1b" not in terminal.getvalue()


def test_console_without_a_terminal_has_no_colours_and_leaves_empty_fields_out() -> None:
    stream = io.StringIO()
    logger = configure_logging(format="console", level="info", stream=stream)()
    logger.info(
        "message.relayed", subject='Отчёт "3"', sender="", uidl="a\x1bb", age=0.5, node=None, ids=[1, 2]
    )
    text = stream.getvalue()
    assert re.sub(r"^\S+", "TS", text) == (
        'TS info    message.relayed subject="Отчёт \\"3\\"" uidl=a\\x1bb age=0.5 ids=[1, 2]\n'
    )


def test_a_dialogue_on_the_console_reads_as_one() -> None:
    stream = io.StringIO()
    log = EventLog(configure_logging(format="console", level="debug", stream=stream)())
    log(WireTraced("maildrop.a", "send", "CAPA"))
    log(WireTraced("maildrop.a", "reply", '+OK "here" a=b'))
    log(WireTraced("maildrop.a", "note", "TLS handshake", "3"))
    assert [line.partition(" ")[2] for line in stream.getvalue().splitlines()] == [
        "maildrop.a send: CAPA",
        'maildrop.a reply: +OK "here" a=b',
        "maildrop.a#3 note: TLS handshake",
    ]


def test_no_level_holds_a_dialogue_back() -> None:
    stream = io.StringIO()
    loggers = configure_logging(format="json", level="error", stream=stream)
    log = EventLog(loggers(), loggers.unfiltered())
    log(WireTraced("maildrop.a", "send", "CAPA"))
    log(ControlUnavailable("/run/control.sock", "no room"))
    assert [line["event"] for line in lines_of(stream)] == ["wire.traced"]


def test_a_dialogue_in_json_keeps_its_fields() -> None:
    stream = io.StringIO()
    EventLog(configure_logging(format="json", level="debug", stream=stream)())(
        WireTraced("maildrop.a", "send", "CAPA")
    )
    (line,) = lines_of(stream)
    assert list(line.items())[1:] == [
        ("level", "info"), ("event", "wire.traced"), ("peer", "maildrop.a"), ("direction", "send"),
        ("text", "CAPA"), ("session", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("terminal", [io.StringIO, Terminal])
def test_a_reply_in_a_dialogue_is_cleaned_and_bounded(terminal: type[io.StringIO]) -> None:
    stream = terminal()
    log = EventLog(configure_logging(format="console", level="debug", stream=stream)())
    log(WireTraced("maildrop.a", "reply", "+OK \x1b[2J\x07\r\nforged at imap://ann:hunter2@host/\u202e"))
    log(WireTraced("maildrop.a", "reply", "+OK " + "x" * 100_000))
    text = stream.getvalue()
    assert text.count("\n") == 2
    assert not re.search(r"\x1b\[2J|[\x07\r\u202e]", text)
    assert "+OK \\x1b[2J\\x07\\x0d\\x0aforged at imap://***@host/" in text
    assert "...[cut]" in text
    assert len(text) < 5_000


@pytest.mark.parametrize("shape", ["json", "console"])
def test_what_peers_send_is_cleaned_in_both_formats(shape: LogFormat) -> None:
    stream = io.StringIO()
    logger = configure_logging(format=shape, level="info", stream=stream)()
    logger.info(
        "x.happened", subject="a\x1b]0;owned\x07\nforged line\u202e", password="hunter2", token=b"hunter2"
    )
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert not set("\x1b\x07\u202e") & set(text)
    assert "hunter2" not in text
    assert "***" in text


@pytest.mark.parametrize("shape", ["json", "console"])
@pytest.mark.parametrize("way", ["structlog", "standard"])
def test_a_traceback_does_not_show_local_variables(shape: LogFormat, way: str) -> None:
    stream = io.StringIO()
    logger = configure_logging(format=shape, level="info", stream=stream)()
    try:
        fail_with_a_password_at_hand()
    except RuntimeError:
        if way == "structlog":
            logger.exception("x.failed")
        else:
            logging.getLogger("apscheduler.executors").exception("job failed")
    text = stream.getvalue()
    assert "fail_with_a_password_at_hand" in text
    assert "RuntimeError" in text
    assert "the session broke" in text
    assert "hunter2-local" not in text
    assert "locals" not in text


def test_a_traceback_on_the_console_is_indented_so_that_it_cannot_forge_a_line() -> None:
    stream = io.StringIO()
    logger = configure_logging(format="console", level="info", stream=stream)()
    logger.error(
        "x.failed", exc_info=RuntimeError("bad\n2026-01-01T00:00:00.000Z info    message.relayed\x1b[2J")
    )
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("x.failed")
    assert all(line.startswith("  ") for line in rest)
    assert "\x1b" not in stream.getvalue()


def test_a_traceback_in_json_is_one_line_even_for_nested_groups() -> None:
    stream = io.StringIO()
    logger = configure_logging(format="json", level="info", stream=stream)()
    logger.error(
        "x.failed", exc_info=ExceptionGroup("outer", [ExceptionGroup("inner", [ValueError("innermost")])])
    )
    assert len(lines_of(stream)) == 1
    assert "innermost" in stream.getvalue()


def test_libraries_speak_through_the_same_renderer_from_warning_up() -> None:
    stream = io.StringIO()
    configure_logging(format="json", level="debug", stream=stream)
    library = logging.getLogger("aiohttp.server")
    library.info("not this")
    library.warning("peer said %s", "hi\x1b[0m at http://u:hunter2@host/")
    (line,) = lines_of(stream)
    del line["ts"]
    assert line == {
        "level": "warning",
        "event": "python.logged",
        "logger": "aiohttp.server",
        "message": "peer said hi\\x1b[0m at http://***@host/",
    }


def test_libraries_obey_a_higher_level() -> None:
    stream = io.StringIO()
    configure_logging(format="json", level="error", stream=stream)
    logging.getLogger("sqlalchemy.pool").warning("not this")
    logging.getLogger("sqlalchemy.pool").error("but this")
    assert [line["message"] for line in lines_of(stream)] == ["but this"]


def test_a_second_call_replaces_the_first() -> None:
    old, new = io.StringIO(), io.StringIO()
    configure_logging(format="json", level="info", stream=old)
    make = configure_logging(format="json", level="info", stream=new)
    make().info("x.happened")
    logging.getLogger("alembic").warning("hello")
    assert old.getvalue() == ""
    assert len(lines_of(new)) == 2


def test_words_that_are_not_levels_or_formats_are_refused() -> None:
    with pytest.raises(ValueError, match="log level 'loud': allowed are debug, info, warning, error"):
        configure_logging(format="json", level="loud", stream=io.StringIO())
    with pytest.raises(ValueError, match="log format 'xml': allowed are auto, console, json"):
        configure_logging(format="xml", level="info", stream=io.StringIO())  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", ["json", "console"])
def test_an_encoding_without_the_letters_fails_no_line(shape: LogFormat) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    configure_logging(format=shape, level="info", stream=stream)().info("x.happened", subject="Отчёт \udcff")
    assert b"\\u041e\\u0442" in raw.getvalue()


def test_the_journal_gets_priorities_and_no_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "journal"
    with target.open("w", encoding="utf-8") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        logger = configure_logging(format="console", level="debug", stream=stream)()
        for level in ("debug", "info", "warning", "error"):
            getattr(logger, level)("x.happened")
        logger.error("x.failed", exc_info=RuntimeError("over\ntwo lines"))
    lines = target.read_text(encoding="utf-8").splitlines()
    assert [line[:3] for line in lines[:4]] == ["<7>", "<6>", "<4>", "<3>"]
    assert len(lines) > 6
    assert all(line.startswith("<3>") for line in lines[4:])
    assert not any("\x1b" in line for line in lines)


def test_json_in_the_journal_has_priorities_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "journal"
    with target.open("w", encoding="utf-8") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        configure_logging(format="auto", level="info", stream=stream)().warning("x.happened")
    (line,) = target.read_text(encoding="utf-8").splitlines()
    assert line.startswith("<4>{")
    assert json.loads(line[3:])["event"] == "x.happened"


def test_another_streams_journal_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    target = tmp_path / "file"
    with target.open("w", encoding="utf-8") as stream:
        configure_logging(format="console", level="info", stream=stream)().info("x.happened")
    assert not target.read_text(encoding="utf-8").startswith("<")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ('say "x"', '"say \\"x\\""'),
        ('close\\" level=error', '"close\\\\\\" level=error"'),
        ("at the end \\", '"at the end \\\\"'),
        ("an escape \\x1b stays", '"an escape \\x1b stays"'),
    ],
)
def test_a_value_ends_where_a_reader_thinks_it_does(value: str, shown: str) -> None:
    line = ConsoleRenderer(colours=False)(
        None, "info", {"ts": "t", "level": "info", "event": "e", "key": value}
    )
    assert line == f"t info    e key={shown}"
