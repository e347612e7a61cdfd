"""Writing a message anew, in memory and in files."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from mailferry.message.eightbit import downgrade
from mailferry.message.rewriting import rewritten
from mailferry.message.spool import Spool, SpooledContent

MESSAGE = b"Return-Path: <a@example.org>\r\nSubject: x\r\n\r\n" + b"h\xc3\xa9llo\nw\xc3\xb6rld\r\n" * 40_000
CLEAN = MESSAGE.partition(b"\r\n")[2].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def stored(spool: Spool, octets: bytes) -> SpooledContent:
    file = spool.new_file()
    file.write(octets)
    content = file.content()
    assert content is not None
    return content


@pytest.mark.parametrize("seven_bit", [True, False])
def test_a_file_comes_back_as_a_file(tmp_path: Path, seven_bit: bool) -> None:
    spool = Spool(tmp_path, 1000, reserve_octets=0)
    content = rewritten(stored(spool, MESSAGE), spool, seven_bit=seven_bit)
    assert isinstance(content, SpooledContent)
    assert b"".join(content.pieces()) == (downgrade(CLEAN) if seven_bit else CLEAN)
    assert (content.is_crlf, content.is_ascii) == (True, seven_bit)
    assert content._file is not stored(spool, MESSAGE)._file


@pytest.mark.parametrize("seven_bit", [True, False])
def test_memory_comes_back_as_memory(seven_bit: bool) -> None:
    assert rewritten(MESSAGE, None, seven_bit=seven_bit) == (downgrade(CLEAN) if seven_bit else CLEAN)


def test_without_a_spool_a_file_comes_back_in_memory(tmp_path: Path) -> None:
    content = stored(Spool(tmp_path, 1000, reserve_octets=0), MESSAGE)
    assert rewritten(content, None, seven_bit=False) == CLEAN


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    content = stored(Spool(tmp_path, 1000, reserve_octets=0), MESSAGE)
    with pytest.raises(OSError, match="No space left") as caught:
        rewritten(content, Spool(tmp_path, 1000, reserve_octets=1 << 60), seven_bit=False)
    assert caught.value.errno == errno.EIO
