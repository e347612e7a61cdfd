"""Lines as people write them become commands, and only those that do no harm to the session."""

from __future__ import annotations

import pytest

from mailferry.errors import LocalProtocolError
from mailferry.protocol.pop3_by_hand import command_by_hand
from mailferry.protocol.pop3_commands import (
    Capa,
    Command,
    Dele,
    Lang,
    List_,
    Noop,
    Retr,
    Rset,
    Stat,
    Top,
    UidlCommand,
    Verb,
)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("CAPA", Capa()),
        (" stat ", Stat()),
        ("LIST", List_()),
        ("list 3", List_(3)),
        ("UIDL", UidlCommand()),
        ("UIDL  3", UidlCommand(3)),
        ("TOP 3 0", Top(3, 0)),
        ("RETR 3", Retr(3)),
        ("DELE 3", Dele(3)),
        ("RSET", Rset()),
        ("NOOP", Noop()),
        ("LANG", Lang()),
        ("lang de", Lang("de")),
        ("XTND  XMIT a", Verb("XTND  XMIT a")),
        ("XLIST x ...", Verb("XLIST x", body=True)),
    ],
)
def test_a_line_becomes_its_command(line: str, command: Command) -> None:
    assert command_by_hand(line) == command


@pytest.mark.parametrize(
    "line",
    [
        "",
        "...",
        "STAT 1",
        "TOP 3",
        "TOP 3 x",
        "TOP 3 -1",
        "RETR",
        "RETR 0",
        "RETR 99999999999",
        "RETR \u0663",
        "LIST 1 2",
        "LANG de en",
        "LANG d\u00e9",
        "QUIT",
        "quit ...",
        "USER alice",
        "PASS secret",
        "AUTH PLAIN",
        "STLS",
        "UTF8",
        "X\nDELE 1",
    ],
)
def test_what_is_wrong_or_not_for_hands_is_told_before_anything_is_sent(line: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        command_by_hand(line)
    assert "secret" not in str(caught.value)
