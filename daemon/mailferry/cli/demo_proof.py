"""Did everything arrive, once, octet for octet? Asked without the daemon's own code.

What a message must look like on its way is worked out here anew, with patterns
of its own, so that a fault in `mailferry.message` cannot hide itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

CRLF = b"\r\n"
_LINE_END = re.compile(rb"\r\n|\r|\n")
_TRACE = re.compile(rb"Received:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")
_RETURN_PATH = re.compile(rb"^Return-Path:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", re.IGNORECASE | re.MULTILINE)


def as_fetched(sample: bytes) -> bytes:
    """Return what a POP3 client gets: RFC 1939 s.3 ends every line, the last too, with CRLF."""
    return sample if sample.endswith(CRLF) else sample + CRLF


def as_relayed(fetched: bytes) -> bytes:
    """Return what SMTP must deliver below our trace field.

    RFC 5321 s.2.3.8: every line end is CRLF; s.4.4: Return-Path is consumed.
    """
    text = _LINE_END.sub(CRLF, fetched)
    if text.startswith(CRLF):
        return text  # no header at all
    header, empty_line, body = text.partition(CRLF + CRLF)
    if not empty_line:
        return _RETURN_PATH.sub(b"", text)
    return _RETURN_PATH.sub(b"", header + CRLF) + CRLF + body


def below_trace(received: bytes) -> bytes | None:
    """Return a message as the sink has it without our trace field; None when it has none."""
    trace = _TRACE.match(received)
    return received[trace.end() :] if trace else None


def sink_problems(samples: Sequence[bytes], received: Iterable[bytes]) -> list[str]:
    """Compare what the sink accepted with the samples, every copy counted."""
    wanted = Counter(as_relayed(as_fetched(sample)) for sample in samples)
    bare = [below_trace(content) for content in received]
    found = Counter(content for content in bare if content is not None)
    return _differences("SMTP", wanted, found, untraced=len(bare) - found.total())


def archive_problems(samples: Iterable[bytes], files: Iterable[bytes]) -> list[str]:
    """Compare the archive's files with the samples; equal messages are one file."""
    wanted = Counter({as_fetched(sample): 1 for sample in samples})
    return _differences("archive", wanted, Counter(files), untraced=0)


def _differences(place: str, wanted: Counter[bytes], found: Counter[bytes], *, untraced: int) -> list[str]:
    missing, doubled = wanted - found, found - wanted
    problems = [f"{place}: missing or altered: {_sketch(content)}" for content in missing]
    problems += [f"{place}: doubled or altered: {_sketch(content)}" for content in doubled]
    if untraced:
        problems.append(f"{place}: {untraced} arrived without our Received field")
    return problems


def _sketch(content: bytes) -> str:
    return f"{len(content)} octets, {content[:60]!r}..."


def maildrop_problems(
    before: Mapping[str, Sequence[bytes]], after: Mapping[str, Sequence[bytes]]
) -> list[str]:
    """Compare the maildrops with what they held, by name: what is to be kept must be untouched."""
    return [
        f"maildrop {name}: held {len(messages)} messages and now has {len(after[name])}, or others"
        for name, messages in before.items()
        if list(messages) != list(after[name])
    ]
