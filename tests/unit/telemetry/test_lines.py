from __future__ import annotations

import asyncio
import gc
import io

import pytest

from mailferry.telemetry.lines import LineWriter


class Stream(io.StringIO):
    """Counts its writes, and refuses them on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []
        self.full = False

    def write(self, text: str) -> int:
        if self.full:
            raise OSError("no space left")
        self.writes.append(text)
        return len(text)


async def test_a_round_of_the_loop_is_one_write() -> None:
    stream = Stream()
    writer = LineWriter(stream)
    for line in "abc":
        writer.info(line)
    assert stream.writes == []
    await asyncio.sleep(0)
    assert stream.writes == ["a\nb\nc\n"]


async def test_a_warning_leaves_at_once_behind_what_came_before() -> None:
    stream = Stream()
    writer = LineWriter(stream)
    writer.info("a")
    writer.warning("b")
    assert stream.writes == ["a\nb\n"]
    writer.info("c")
    await asyncio.sleep(0)
    assert stream.writes == ["a\nb\n", "c\n"]


def test_without_a_loop_every_line_leaves_at_once() -> None:
    stream = Stream()
    LineWriter(stream).info("a")
    assert stream.writes == ["a\n"]


def test_a_loop_that_ended_in_between_holds_nothing_back() -> None:
    stream = Stream()
    writer = LineWriter(stream)
    loop = asyncio.new_event_loop()

    async def say() -> None:
        writer.info("a")
        loop.stop()

    task = loop.create_task(say())
    loop.run_forever()
    loop.close()
    assert task.done()
    assert stream.writes == []
    asyncio.run(_say(writer, "b"))
    assert stream.writes == ["a\nb\n"]


async def _say(writer: LineWriter, line: str) -> None:
    writer.info(line)


async def test_what_is_left_at_the_end_is_written() -> None:
    stream = Stream()
    writer = LineWriter(stream)
    writer._lines.append("a")
    del writer
    gc.collect()
    assert stream.writes == ["a\n"]


async def test_who_logs_learns_that_the_round_before_could_not_be_written() -> None:
    stream = Stream()
    stream.full = True
    writer = LineWriter(stream)
    writer.info("a")
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="no space left"):
        writer.info("b")
    stream.full = False
    writer.info("c")
    await asyncio.sleep(0)
    assert stream.writes == ["c\n"]
