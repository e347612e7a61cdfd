"""Mail for the maildrops: plain, of a given size, no two alike, the same in every run."""

from __future__ import annotations

import base64
import random
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.tools import tool

_HEADER = (
    "Return-Path: <ann@example.net>\n"
    "Delivered-To: bench@example.org\n"
    "Received: from mx.example.net (mx.example.net [192.0.2.25])\n"
    "\tby pop.example.org (Postfix) with ESMTPS id {number:010x}\n"
    "\tfor <bench@example.org>; Mon, 06 Jul 2026 09:15:{second:02d} +0300 (EEST)\n"
    "X-Bench-Id: {number}\n"
    "From: Ann Example <ann@example.net>\n"
    "To: Bench <bench@example.org>\n"
    "Subject: message {number} of the benchmark\n"
    "Date: Mon, 06 Jul 2026 09:15:00 +0300\n"
    "Message-ID: <bench.{number}@example.net>\n"
    "MIME-Version: 1.0\n"
    "Content-Type: text/plain; charset=us-ascii\n"
    "\n"
)
_POOL_LINES = 4096
_LINE_OCTETS = 77
_DIGEST_SECONDS = 300.0

Digests = Mapping[int, str]
"""By the number of a message: its digest and its size, as `digest.c` prints them."""


class MailMaker:
    """Makes messages."""

    def __init__(self, seed: int = 1) -> None:
        octets = random.Random(seed).randbytes(_POOL_LINES * 57)
        self._pool = base64.encodebytes(octets)

    def message(self, number: int, size: int) -> bytes:
        """Return a message of about `size` octets on the wire; line ends are LF, as Dovecot stores them."""
        header = _HEADER.format(number=number, second=number % 60).encode("ascii")
        lines = max(1, (size - len(header)) // (_LINE_OCTETS + 1))
        start = number * 31 % _POOL_LINES * _LINE_OCTETS
        body = (self._pool[start:] + self._pool * (lines // _POOL_LINES + 1))[: lines * _LINE_OCTETS]
        # A line that begins with a dot: whoever forgets to stuff it is found out.
        return header + b".stuffed %d\n" % number + body

    def write(self, folder: Path, numbers: Iterable[int], size: int) -> list[Path]:
        """Write messages into files, once; return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for number in numbers:
            path = folder / str(number)
            if not path.exists():
                path.write_bytes(self.message(number, size))
            paths.append(path)
        return paths


def wire_octets(content: bytes) -> int:
    """Return the size of a message with CRLF line ends."""
    return len(content) + content.count(b"\n")


def digests_of(paths: Iterable[Path]) -> list[tuple[int, str]]:
    """Return number and digest of each file, as the sink would have told them."""
    words = "".join(f"{path}\n" for path in paths)
    answer = subprocess.run(
        [tool("digest")], input=words, capture_output=True, text=True, check=True, timeout=_DIGEST_SECONDS
    )
    return [parse_record(line) for line in answer.stdout.splitlines()]


def parse_record(line: str) -> tuple[int, str]:
    """Take apart `ID DIGEST OCTETS`; the digest keeps the octets."""
    number, _, digest = line.partition(" ")
    return int(number), digest
