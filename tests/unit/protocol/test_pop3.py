from __future__ import annotations

from typing import get_args

import pytest

from mailferry.errors import LocalProtocolError, MessageTooLargeError, RemoteProtocolError
from mailferry.protocol.pop3 import Greeting, Pop3Connection, Pop3Limits, Reply
from mailferry.protocol.pop3_commands import (
    Capa,
    Command,
    Dele,
    List_,
    Noop,
    Pass,
    Quit,
    Retr,
    Stat,
    Stls,
    User,
)
from mailferry.protocol.pop3_state import MOVES, Pop3State


def authorization() -> Pop3Connection:
    connection = Pop3Connection()
    connection.receive_data(b"+OK hello\r\n")
    return connection


def transaction(limits: Pop3Limits | None = None) -> Pop3Connection:
    connection = Pop3Connection(limits or Pop3Limits())
    connection.receive_data(b"+OK hello\r\n")
    for command in (User("alice"), Pass("secret")):
        connection.send(command)
        connection.receive_data(b"+OK\r\n")
    return connection


def test_the_table_knows_every_state_and_every_command() -> None:
    assert set(MOVES) == set(Pop3State)
    assert set().union(*MOVES.values()) == set(get_args(Command))


def test_the_transport_can_see_what_is_due() -> None:
    connection = transaction()
    assert (connection.pending, connection.awaiting, connection.receiving_octets) == (0, None, 0)
    connection.send(Retr(1))
    connection.send(Dele(1))
    assert (connection.pending, connection.awaiting) == (2, Retr(1))
    connection.receive_data(b"+OK 5")
    assert connection.receiving_octets == 5
    connection.receive_data(b" octets\r\nabc")
    assert connection.receiving_octets == 17
    connection.receive_data(b"\r\n.\r\n+O")
    assert (connection.pending, connection.awaiting, connection.receiving_octets) == (1, Dele(1), 2)
    connection.receive_data(b"K\r\n")
    assert (connection.pending, connection.receiving_octets) == (0, 0)


def test_a_command_that_cannot_be_encoded_changes_nothing() -> None:
    connection = authorization()
    with pytest.raises(LocalProtocolError):
        connection.send(User("a\r\nQUIT"))
    assert (connection.pending, connection.state) == (0, Pop3State.AUTHORIZATION)


def has_top(connection: Pop3Connection) -> bool | None:
    return connection.capabilities.has_top if connection.capabilities else None


def test_capabilities_are_those_of_the_last_capa() -> None:
    connection = authorization()
    assert has_top(connection) is None
    for reply, expected in (
        (b"+OK\r\nTOP\r\n.\r\n", True),
        (b"+OK\r\n.\r\n", False),
        (b"-ERR unknown\r\n", None),
    ):
        connection.send(Capa())
        connection.receive_data(reply)
        assert has_top(connection) is expected


def test_tls_forgets_capabilities() -> None:
    connection = authorization()
    for command, reply in ((Capa(), b"+OK\r\nTOP\r\n.\r\n"), (Stls(), b"+OK\r\n")):
        connection.send(command)
        connection.receive_data(reply)
    assert has_top(connection) is True
    connection.tls_established()
    assert has_top(connection) is None


def test_tls_without_stls_is_our_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        authorization().tls_established()


def test_tls_is_not_established_after_an_injection() -> None:
    connection = authorization()
    connection.send(Stls())
    with pytest.raises(RemoteProtocolError):
        connection.receive_data(b"+OK\r\n+OK\r\n")
    with pytest.raises(RemoteProtocolError):
        connection.tls_established()


def test_the_end_of_the_link_ends_the_session() -> None:
    connection = transaction()
    connection.send(Retr(1))
    connection.receive_data(b"+OK\r\nhalf a mess")
    assert connection.receive_eof() == []
    assert (connection.state, connection.pending) == (Pop3State.CLOSED, 1)
    assert connection.receive_data(b"age\r\n.\r\n") == []
    with pytest.raises(LocalProtocolError):
        connection.send(Quit())


def test_whole_replies_before_a_failure_are_handed_over() -> None:
    connection = transaction(Pop3Limits(message_octets=10))
    for number in (1, 2):
        connection.send(Retr(number))
    with pytest.raises(MessageTooLargeError):
        connection.receive_data(b"+OK\r\ngood\r\n.\r\n+OK\r\n" + b"x" * 100)
    assert connection.events_before_failure == (Reply(Retr(1), True, None, "", b"good\r\n"),)
    assert connection.state is Pop3State.CLOSED
    assert connection.pending == 1


def test_a_listing_beyond_its_limit_is_no_large_message() -> None:
    connection = transaction(Pop3Limits(listing_octets=10))
    connection.send(List_())
    with pytest.raises(RemoteProtocolError) as caught:
        connection.receive_data(b"+OK\r\n1 1\r\n2 2\r\n3 3\r\n.\r\n")
    assert not isinstance(caught.value, MessageTooLargeError)


def test_replies_and_greetings_show_their_line() -> None:
    assert Reply(Stat(), False, "IN-USE", "busy", None).line == "-ERR [IN-USE] busy"
    assert Reply(Noop(), True, None, "", None).line == "+OK"
    assert Greeting("hello", None, True, None).line == "+OK hello"


def test_the_timestamp_search_is_not_quadratic() -> None:
    """4 KB of the worst greeting, well within a unit test's time."""
    connection = Pop3Connection()
    (event,) = connection.receive_data(b"+OK " + b"<" + b"@a" * 2000 + b"\r\n")
    assert isinstance(event, Greeting)
    assert event.apop_timestamp is None
