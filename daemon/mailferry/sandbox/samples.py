"""Some thirty messages for the sandbox: what real maildrops hold, odd ones included.

Every call builds the same octets. People, addresses and firms are invented;
domains are those of RFC 2606.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterable

_DATE = "Mon, 06 Jul 2026 09:15:00 +0300"
_BIG_BODY_OCTETS = 2 * 1024 * 1024
_LONG_LINE_OCTETS = 20_000


def sample_messages() -> list[bytes]:
    """Return the sample messages, always the same."""
    return [*_ordinary(), *_cyrillic(), *_other_charsets(), *_multiparts(), *_dots(), *_broken(), *_doubles()]


def _message(fields: Iterable[str | bytes], body: bytes) -> bytes:
    lines = [field if isinstance(field, bytes) else field.encode("ascii") for field in fields]
    return b"\r\n".join([*lines, b"", body])


def _text(body: str, charset: str = "ascii") -> bytes:
    return body.replace("\n", "\r\n").encode(charset)


def _fields(
    number: int, subject: str | bytes, sender: str = "Ann Example <ann@example.org>"
) -> list[str | bytes]:
    if isinstance(subject, str):
        subject = subject.encode("ascii")
    return [
        "Return-Path: <ann@example.org>",
        f"From: {sender}",
        "To: Bob Example <bob@example.net>",
        b"Subject: " + subject,
        f"Date: {_DATE}",
        f"Message-ID: <sample-{number}@example.org>",
    ]


def _plain(charset: str, encoding: str = "8bit") -> list[str | bytes]:
    return [
        "MIME-Version: 1.0",
        f"Content-Type: text/plain; charset={charset}",
        f"Content-Transfer-Encoding: {encoding}",
    ]


def _word(text: str, charset: str, encoding: str = "B") -> str:
    """Return one encoded word (RFC 2047)."""
    octets = text.encode(charset)
    if encoding == "B":
        return f"=?{charset}?B?{base64.b64encode(octets).decode('ascii')}?="
    return f"=?{charset}?Q?{''.join(f'={octet:02X}' for octet in octets)}?="


def _base64_lines(octets: bytes) -> bytes:
    return base64.encodebytes(octets).replace(b"\n", b"\r\n")


def _noise(seed: int, count: int) -> bytes:
    return random.Random(seed).randbytes(count)  # noqa: S311 - attachments, not secrets


def _ordinary() -> list[bytes]:
    return [
        _message(_fields(1, "Welcome to the sandbox"), _text("Hello Bob,\n\nthis is a first message.\n")),
        _message(_fields(2, "Minutes of Monday"), _text("1. Budget\n2. Move\n\nAnn\n")),
        _message(
            [
                "Received: from mail.example.com by mx.example.net; Mon, 06 Jul 2026 09:14:58 +0300",
                "Received: from [192.0.2.7] by mail.example.com; Mon, 06 Jul 2026 09:14:55 +0300",
                *_fields(3, "A folded\r\n  subject,\r\n\tthree lines long"),
            ],
            _text("See the header.\n"),
        ),
        _message(_fields(4, "Nothing inside"), b""),
        _message(_fields(5, "The last line has no end"), b"first line\r\nlast line"),
    ]


def _cyrillic() -> list[bytes]:
    subject = "Отчёт за июнь"
    body = "Здравствуйте!\n\nОтчёт за июнь готов, проверьте, пожалуйста.\n\nАнна\n"  # noqa: RUF001
    messages = []
    for number, charset in enumerate(("windows-1251", "koi8-r", "utf-8"), 10):
        sender = f"{_word('Анна Пример', charset)} <ann@example.org>"
        messages.append(
            _message(_fields(number, _word(subject, charset), sender) + _plain(charset), _text(body, charset))
        )
    quoted = _fields(13, _word(subject, "koi8-r", "Q")) + _plain("koi8-r", "base64")
    messages.append(_message(quoted, _base64_lines(_text(body, "koi8-r"))))
    for number, charset in enumerate(("windows-1251", "koi8-r"), 14):
        # Raw 8-bit octets in the header, and nothing that says which charset they are.
        raw = b"Subject: " + subject.encode(charset)
        fields: list[str | bytes] = [
            f"Message-ID: <sample-{number}@example.org>",
            b"From: " + "Анна".encode(charset) + b" <ann@example.org>",
            raw,
        ]
        messages.append(_message(fields, _text(body, charset)))
    return messages


def _other_charsets() -> list[bytes]:
    japanese = "会議のお知らせ"
    split = "Очень длинная тема, которую отправитель разрезал посреди буквы".encode()
    halves = [base64.b64encode(half).decode("ascii") for half in (split[:41], split[41:])]
    return [
        _message(
            _fields(20, _word(japanese, "iso-2022-jp")) + _plain("iso-2022-jp", "7bit"),
            _text(f"{japanese}\n", "iso-2022-jp"),
        ),
        _message(
            _fields(21, "\r\n ".join(f"=?utf-8?B?{half}?=" for half in halves)),
            _text("A letter cut in two.\n"),
        ),
        _message(
            _fields(22, "Grüße an alle".encode()) + _plain("utf-8"),
            _text("Raw UTF-8: Grüße, €, 🚢\n", "utf-8"),
        ),
    ]


def _multiparts() -> list[bytes]:
    return [
        _mixed(30, "Two attachments", [("plan.bin", _noise(30, 3000)), ("notes.bin", _noise(31, 9000))]),
        _mixed(32, "A drawing of two megabytes", [("drawing.bin", _noise(32, _BIG_BODY_OCTETS * 3 // 4))]),
        _mixed(33, "Вложение с русским именем", [("отчёт.bin", _noise(33, 2000))]),  # noqa: RUF001
        _bounce(),
    ]


def _mixed(number: int, subject: str, attachments: Iterable[tuple[str, bytes]]) -> bytes:
    boundary = f"=_part-{number}"
    parts = [b"Content-Type: text/plain; charset=utf-8\r\n\r\nSee the attachment.\r\n"]
    for name, content in attachments:
        head = (
            f"Content-Type: application/octet-stream\r\n"
            f'Content-Disposition: attachment; filename="{_word(name, "utf-8")}"\r\n'
            f"Content-Transfer-Encoding: base64\r\n\r\n"
        )
        parts.append(head.encode("ascii") + _base64_lines(content))
    fields = [
        *_fields(number, _word(subject, "utf-8")),
        "MIME-Version: 1.0",
        f'Content-Type: multipart/mixed; boundary="{boundary}"',
    ]
    return _message(fields, _joined(boundary, parts))


def _joined(boundary: str, parts: Iterable[bytes]) -> bytes:
    mark = b"--" + boundary.encode("ascii")
    return b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"


def _bounce() -> bytes:
    """Return a delivery status notification (RFC 3464): its reverse-path is null."""
    parts = [
        _text("Content-Type: text/plain\n\nYour message could not be delivered.\n"),
        _text(
            "Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.net\n\n"
            "Final-Recipient: rfc822; nobody@example.net\nAction: failed\nStatus: 5.1.1\n"
        ),
        _text("Content-Type: text/rfc822-headers\n\nSubject: Hello\nFrom: bob@example.net\n"),
    ]
    fields = [
        "Return-Path: <>",
        "From: Mail Delivery System <mailer-daemon@example.net>",
        "To: bob@example.net",
        "Subject: Undelivered mail returned to sender",
        f"Date: {_DATE}",
        "Message-ID: <sample-34@example.net>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        'Content-Type: multipart/report; report-type=delivery-status; boundary="=_part-34"',
    ]
    return _message(fields, _joined("=_part-34", parts))


def _dots() -> list[bytes]:
    return [
        _message(_fields(40, "Dots"), b".\r\n..\r\n...\r\n.hidden\r\n.\r\n\r\n.end\r\n"),
        _message(_fields(41, "A dot is all there is"), b"."),
        # Each of these would end the message for a reader that takes a bare LF or CR as a line end.
        _message(_fields(42, "Dots between bare line ends"), b"one\n.\ntwo\n.\r\nthree\r.\rfour\r\nend\r\n"),
    ]


def _broken() -> list[bytes]:
    return [
        _message(
            ["From: ann@example.org", "this line has no colon", "Subject: A line without a colon above me"],
            _text("The header is broken.\n"),
        ),
        _message(
            ["From: ann@example.org", "Subject: =?utf-8?B?0J7RgtGH"], _text("An encoded word without end.\n")
        ),
        _message(
            ["From: ann@example.org", "Subject: =?x-unknown?Q?Strange=20charset?="],
            _text("No such charset.\n"),
        ),
        b"\r\nA message without any header.\r\n",
        b"A message that is one line of text and nothing else",
        _message(_fields(55, "NUL and controls"), b"before\0after\r\nbell\x07 escape\x1b[31m\r\n"),
        _message(_fields(56, "A very long line"), b"x" * _LONG_LINE_OCTETS + b"\r\nend\r\n"),
        _message(_fields(57, "Bare line feeds"), b"one\ntwo\n\nthree\r\nfour\n"),
        _message(
            ["From: ann@example.org", "From: second@example.org", "Subject: one", "Subject: two"],
            _text("Every field twice, no Date, no Message-ID.\n"),
        ),
    ]


def _doubles() -> list[bytes]:
    identical = _message(_fields(60, "Two of a kind"), _text("Both are the same to the last octet.\n"))
    return [
        identical,
        identical,
        _message(_fields(61, "One Message-ID, first text"), _text("First.\n")),
        _message(_fields(61, "One Message-ID, second text"), _text("Second.\n")),
    ]
