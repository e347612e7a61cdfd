"""The standard library's clients, made fit to check servers with."""

from __future__ import annotations

import asyncio
import contextlib
import poplib
import smtplib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

from mailferry.sandbox.link_server import LinkServer
from mailferry.sandbox.smtp_sink import SmtpSink

T = TypeVar("T")
HOST = "localhost"
SECONDS = 5.0
_LONGEST_LINE_OCTETS = 1024 * 1024
_ENOUGH_OCTETS = 1_000_000
MESSAGE = b"Subject: hello\r\n\r\n.\r\n..two\r\nend\r\n"


@contextlib.asynccontextmanager
async def running(server: LinkServer | SmtpSink) -> AsyncIterator[None]:
    """Start a server and stop it at the end."""
    await server.start()
    try:
        yield
    finally:
        await server.stop()


def with_pop3(port: int, work: Callable[[poplib.POP3], T], trust: ssl.SSLContext | None = None) -> T:
    """Let poplib do something; under implicit TLS when there is a context."""
    if trust is None:
        client = poplib.POP3(HOST, port, SECONDS)
    else:
        client = poplib.POP3_SSL(HOST, port, timeout=SECONDS, context=trust)
    try:
        return work(client)
    finally:
        client.close()


def log_in(client: poplib.POP3) -> None:
    """Log in as the user whom these tests have."""
    client.user("ann")
    client.pass_("pw")


def drain(client: poplib.POP3) -> list[bytes]:
    """Log in, retrieve everything, delete everything, quit."""
    log_in(client)
    count = client.stat()[0]
    contents = [retrieved(client, number) for number in range(1, count + 1)]
    for number in range(1, count + 1):
        client.dele(number)
    client.quit()
    return contents


def retrieved(client: poplib.POP3, number: int) -> bytes:
    """Return a message's content."""
    return b"".join(line + b"\r\n" for line in client.retr(number)[1])


@contextlib.contextmanager
def smtp(port: int, trust: ssl.SSLContext | None = None) -> Iterator[smtplib.SMTP]:
    """Give a session that has said EHLO; under STARTTLS when there is a context."""
    client = smtplib.SMTP(HOST, port, timeout=SECONDS)
    try:
        client.ehlo()
        if trust is not None:
            client.starttls(context=trust)
            client.ehlo()
        yield client
    finally:
        client.close()


def send_raw(client: smtplib.SMTP, content: bytes, *recipients: str) -> tuple[int, bytes]:
    """Send octets as they are, without smtplib's care for line ends; return the last reply."""
    client.mail("ann@example.net", ["BODY=8BITMIME"])
    for recipient in recipients or ("bob@example.org",):
        client.rcpt(recipient)
    client.docmd("DATA")
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    client.send(stuffed + b".\r\n")
    return client.getreply()


async def says(port: int, *lines: bytes, seconds: float = 0.3) -> bytes:
    """Send lines; return all that comes until the server closes or has been heard for so long.

    The last word tells how it ended: `<closed>`, `<reset>` or `<silent>`.
    """
    reader, writer = await asyncio.open_connection(HOST, port)
    heard, end = b"", b"<closed>"
    try:
        writer.write(b"".join(line + b"\r\n" for line in lines))
        async with asyncio.timeout(seconds):
            while len(heard) < _ENOUGH_OCTETS and (chunk := await reader.read(65536)):
                heard += chunk
    except TimeoutError:
        end = b"<silent>"
    except ConnectionResetError:
        end = b"<reset>"
    finally:
        writer.transport.abort()
    return heard + end


def allow_long_lines() -> None:
    """Lift poplib's limit of 2048 octets to a line, which real mail exceeds."""
    poplib._MAXLINE = _LONGEST_LINE_OCTETS  # type: ignore[attr-defined]  # the only way there is
