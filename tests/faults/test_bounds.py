"""Whatever a peer sends, and however slowly: memory and time are bounded, and the others are served."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailferry.app import Application
from mailferry.config.loading import load_settings
from mailferry.errors import ConnectionLostError, MessageTooLargeError, ReadTimeoutError, RemoteProtocolError
from mailferry.message.spool import SpoolFile
from mailferry.model import MaildropName
from mailferry.policy.backoff import Backoff
from mailferry.services.poll import PollReport
from support.configs import ConfigFolder, Tables, Value
from support.daemon import DaemonProcess
from support.faults import GREETING, Drip, Endless, Fault
from support.figures import record, thorough
from support.scripted_smtp import FINAL, ScriptedSmtpServer
from support.streamed import (
    GeneratedMail,
    HashedMessage,
    HashingSmtp,
    Say,
    StreamingPop3,
    dripping,
    endless,
    large_mail,
)

MIB = 2**20
BUDGET, THRESHOLD = "4M", "256K"


class Place:
    """A maildrop, a next hop, and polls between them by the whole program in this process."""

    def __init__(
        self, folder: Path, pop_port: int, hop_port: int, *, timeout: str = "5s", **hop: Value
    ) -> None:
        self.folder = ConfigFolder(folder)
        self.maildrop = self.folder.maildrop(pop_port, "ann", timeout=timeout, every="1s", jitter="0s")
        self.hop = self.folder.smtp(hop_port, timeout=timeout, **hop)
        self.log = io.StringIO()

    def write(self) -> Path:
        """Write the configuration."""
        tables: Tables = {"maildrop.ann": self.maildrop, "destination.hop": self.hop}
        return self.folder.write(tables, log_format="json", memory_budget=BUDGET, spool_threshold=THRESHOLD)

    async def poll(
        self, while_polling: Callable[[], None] = lambda: None, *, opening: asyncio.Lock | None = None
    ) -> PollReport:
        """Poll once; afterwards no file of the spool is left.

        `opening` lets one program start at a time: migrations know only one ledger.
        """
        settings = load_settings(self.write(), environ={})
        reports: list[PollReport | None] = []
        application = Application(settings, log_stream=self.log)
        async with contextlib.AsyncExitStack() as stack:
            async with opening or asyncio.Lock():
                supervisor = await stack.enter_async_context(application.opened())
            polling = asyncio.create_task(
                supervisor.run_once([MaildropName("ann")], lambda _name, report: reports.append(report))
            )
            while not polling.done():
                while_polling()
                await asyncio.wait({polling}, timeout=0.01)
            await polling
        assert not spool_files(self.folder.state), "a spool file is still open"
        assert list((self.folder.state / "spool").iterdir()) == []
        (report,) = reports
        assert report is not None
        return report


def spool_files(state: Path) -> list[str]:
    """Return what this process has open in a spool."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:  # closed meanwhile, as the one that lists this folder
            continue
        if target.startswith(f"{state}/spool/"):
            found.append(target)
    return found


def arrived(mail: GeneratedMail, hop: HashingSmtp) -> HashedMessage:
    """Return what came of a message; it must be whole, and have come once."""
    (found,) = [each for each in hop.accepted if each.digest == mail.digest]
    assert found.octets == mail.octets
    return found


# -- without an end ----------------------------------------------------------------------------------

ENDLESS: dict[str, tuple[Say, type[Exception], str]] = {
    "GREETING": (endless(b"x", b"+OK "), RemoteProtocolError, "line longer"),
    "CAPA": (endless(b"X-NEVER\r\n", b"+OK\r\n"), RemoteProtocolError, "reply longer"),
    "PASS": (endless(b"x", b"+OK "), RemoteProtocolError, "line longer"),
    "STAT": (endless(b"1", b"+OK "), RemoteProtocolError, "line longer"),
    "LIST": (endless(b"1 1\r\n", b"+OK\r\n"), RemoteProtocolError, "reply longer"),
    "UIDL": (endless(b"1 " + b"u" * 600 + b"\r\n", b"+OK\r\n"), RemoteProtocolError, "reply longer"),
    "RETR": (endless(b"x" * 76 + b"\r\n", b"+OK\r\n"), MessageTooLargeError, "reply longer"),
    "DELE": (endless(b"x", b"+OK "), RemoteProtocolError, "line longer"),
}


@pytest.mark.parametrize("verb", ENDLESS)
async def test_a_reply_without_an_end_ends_the_session(verb: str, tmp_path: Path) -> None:
    say, kind, words = ENDLESS[verb]
    pop = StreamingPop3([large_mail("one", 1000)], says={verb: say})
    async with pop.running(), HashingSmtp().running() as hop:
        place = Place(tmp_path / "m", pop.port, hop.port)
        place.maildrop["max_size"] = "2M"
        report = await place.poll()
    assert type(report.failure) is kind, report.failure
    assert words in str(report.failure)
    assert len(hop.accepted) == (verb == "DELE")


SMTP_ENDLESS = {
    "greeting": Fault(GREETING, Endless(b"x"), reply=b"220 "),
    "greeting of many lines": Fault(GREETING, Endless(b"220-x\r\n"), reply=b"220-x\r\n"),
    "capabilities": Fault(b"EHLO", Endless(b"250-X-NEVER\r\n"), reply=b"250-x\r\n"),
    "reply line": Fault(b"MAIL", Endless(b"x"), reply=b"250 "),
    "reply to the final dot": Fault(FINAL, Endless(b"250-x\r\n"), reply=b"250-x\r\n"),
}


@pytest.mark.parametrize("what", SMTP_ENDLESS)
async def test_a_next_hop_without_an_end_defers_the_message(what: str, tmp_path: Path) -> None:
    server = ScriptedSmtpServer(SMTP_ENDLESS[what])
    await server.start("127.0.0.1")
    async with StreamingPop3([large_mail("one", 1000)]).running() as pop:
        report = await Place(tmp_path / "m", pop.port, server.port).poll()
        assert (report.relayed, len(pop.mails)) == (0, 1)
    await server.stop()


@pytest.mark.timeout(300)
async def test_a_listing_of_millions_is_read(tmp_path: Path) -> None:
    """With the longest unique-ids of RFC 1939; two million of them when somebody asks for thoroughness."""
    count = 2_000_000 if thorough() else 50_000

    def listing(line: Callable[[int], bytes]) -> Callable[[], Iterator[bytes]]:
        return lambda: (
            b"".join(map(line, range(first, min(first + 1000, count + 1))))
            for first in range(1, count + 1, 1000)
        )

    async def break_off(writer: asyncio.StreamWriter) -> None:
        writer.close()

    pop = StreamingPop3(count=count, says={"RETR": break_off})
    pop.listing["LIST"] = listing(lambda number: b"%d %d\r\n" % (number, 1000 + number))
    pop.listing["UIDL"] = listing(lambda number: b"%d %070d\r\n" % (number, number))
    async with pop.running(), HashingSmtp().running() as hop:
        report = await Place(tmp_path / "m", pop.port, hop.port, timeout="60s").poll()
    assert report.listed == count
    assert isinstance(report.failure, ConnectionLostError), "at the first RETR, not before"
    assert pop.retrieved


@pytest.mark.timeout(120)
async def test_an_endless_message_costs_the_others_nothing(tmp_path: Path) -> None:
    """The real program: how much memory it takes, and that the maildrop's other messages arrive."""
    others = [large_mail(f"other-{number}", 3000) for number in range(5)]
    pop = StreamingPop3([others[0], large_mail("endless", 5000), *others[1:]])
    pop.says["RETR 2"] = endless(b"x" * 76 + b"\r\n", b"+OK\r\n")
    async with pop.running(), HashingSmtp().running() as hop:
        place = Place(tmp_path / "m", pop.port, hop.port)
        place.maildrop["max_size"] = "40M"
        first, peak = await run_once(place.write())
        assert first.named("message.fetch_failed")[0]["uidl"] == "endless"
        await run_once(place.write())
        assert [mail.uidl for mail in pop.mails] == ["endless"]
    growth = peak - await idle_octets(tmp_path / "idle")
    record("endless RETR: peak memory", peak_growth_kib=growth // 1024)
    assert {mail.digest for mail in others} == {each.digest for each in hop.accepted}
    assert growth < 16 * MIB, f"{growth / MIB:.1f} MiB more than a program that relays nothing"


async def run_once(config: Path) -> tuple[DaemonProcess, int]:
    """Poll with the real program; return it and the most memory that it had."""
    peak = 0
    with DaemonProcess(config, command="once") as program:
        while program.process.poll() is None:
            peak = max(peak, peak_octets(program))
            await asyncio.sleep(0.005)
        program.wait()
    return program, peak


def peak_octets(program: DaemonProcess) -> int:
    """Return the most memory that a program has had so far; 0 once it has ended."""
    try:
        status = Path(f"/proc/{program.process.pid}/status").read_text("ascii")
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found is not None else 0


async def idle_octets(folder: Path) -> int:
    """Return what a program takes that finds nothing to do."""
    async with StreamingPop3().running() as pop:
        _, peak = await run_once(Place(folder, pop.port, 9).write())
    return peak


# -- without haste -----------------------------------------------------------------------------------

DRIPS: dict[str, bytes] = {
    **dict.fromkeys(("GREETING", "CAPA", "USER", "PASS", "STAT", "DELE", "QUIT"), b""),
    **dict.fromkeys(("LIST", "UIDL", "RETR"), b"+OK\r\n"),
}
DRIPPING_SMTP = (GREETING, b"EHLO", b"MAIL", b"RCPT", b"DATA", FINAL)


@pytest.mark.timeout(40)
async def test_a_server_that_drips_is_given_up_in_every_phase(tmp_path: Path) -> None:
    """All at once: each would go on for ever, and ends soon after its timeout of a second."""

    opening = asyncio.Lock()

    async def drip(verb: str) -> float:
        pop = StreamingPop3([large_mail("one", 1000)], says={verb: dripping(b"x", DRIPS[verb])})
        async with pop.running(), HashingSmtp().running() as hop:
            place = Place(tmp_path / verb, pop.port, hop.port, timeout="1s")
            started = time.monotonic()
            report = await place.poll(opening=opening)
            # What QUIT is answered decides whether the deletions count, and is no failure.
            assert isinstance(report.failure, ReadTimeoutError) or verb == "QUIT", (verb, report.failure)
            assert len(pop.mails) == 1
            return time.monotonic() - started

    lasted = await asyncio.gather(*(drip(verb) for verb in DRIPS))
    assert max(lasted) < 8


@pytest.mark.timeout(40)
async def test_a_next_hop_that_drips_is_given_up_in_every_phase(tmp_path: Path) -> None:
    opening = asyncio.Lock()

    async def drip(verb: bytes) -> None:
        server = ScriptedSmtpServer(Fault(verb, Drip(0.05), reply=b"250 " + b"x" * 4000 + b"\r\n"))
        await server.start("127.0.0.1")
        async with StreamingPop3([large_mail("one", 1000)]).running() as pop:
            folder = tmp_path / verb.decode()
            place = Place(folder, pop.port, server.port, timeout="1s", final_timeout="1s")
            report = await place.poll(opening=opening)
            assert (report.failure, report.relayed, len(pop.mails)) == (None, 0, 1)
        await server.stop()

    started = time.monotonic()
    await asyncio.gather(*(drip(verb) for verb in DRIPPING_SMTP))
    assert time.monotonic() - started < 12


async def test_a_session_whose_replies_are_all_late_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailferry.net.pop3_dialogue._QUICK_SECONDS", 0.02)
    monkeypatch.setattr("mailferry.net.pop3_dialogue._PATIENCE", 0.2)

    async def late(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(b"+OK\r\nSubject: x\r\n\r\n.\r\n")

    pop = StreamingPop3([large_mail(f"m{number}", 1000) for number in range(30)], says={"RETR": late})
    async with pop.running(), HashingSmtp().running() as hop:
        place = Place(tmp_path / "m", pop.port, hop.port, timeout="5s")
        place.maildrop |= {"pipelining": False}
        report = await place.poll()
    assert isinstance(report.failure, ReadTimeoutError)
    assert "late by" in str(report.failure)
    # Each was late by 0.18 s, and a second is all there is: the sixth is too much.
    assert 5 <= len(pop.retrieved) <= 9
    assert report.relayed >= 4, "what was whole before counts"


# -- large messages ----------------------------------------------------------------------------------

WAYS = [pytest.param(False, id="DATA"), pytest.param(True, id="BDAT")]


@pytest.mark.parametrize("chunking", WAYS)
async def test_lines_of_a_megabyte_pass_unchanged(tmp_path: Path, chunking: bool) -> None:
    mails = [
        GeneratedMail(f"long-{n}", b"y" * (MIB - 2 + n) + b"\r\n", lines) for n, lines in ((0, 1), (1, 3))
    ]
    mails.append(GeneratedMail("dotted", b".." + b"." * MIB + b"\r\n", 2))
    async with StreamingPop3(list(mails)).running() as pop, HashingSmtp(chunking=chunking).running() as hop:
        report = await Place(tmp_path / "m", pop.port, hop.port).poll()
        assert (report.failure, report.relayed, pop.mails) == (None, 3, [])
    for mail in mails[:2]:
        assert arrived(mail, hop).by == ("BDAT" if chunking else "DATA")
    # The server stuffs the dot that begins a line: what was meant has one less.
    assert arrived(GeneratedMail("dotted", b"." + b"." * MIB + b"\r\n", 2), hop)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("chunking", WAYS)
async def test_a_large_message_takes_little_memory(tmp_path: Path, chunking: bool) -> None:
    mail = large_mail("large", 32 * MIB, header=b"Return-Path: <bounce@example.org>\r\n")
    async with StreamingPop3([mail]).running() as pop, HashingSmtp(chunking=chunking).running() as hop:
        place = Place(tmp_path / "m", pop.port, hop.port, timeout="30s")
        _, peak = await run_once(place.write())
        assert not pop.mails
    growth = peak - await idle_octets(tmp_path / "idle")
    sent = large_mail("large", 32 * MIB)
    assert hop.accepted[0].octets == mail.octets - len(b"Return-Path: <bounce@example.org>\r\n")
    assert hop.accepted[0].digest == GeneratedMail("large", sent.line, mail.lines).digest
    record("a message of 32 MiB: memory", peak_growth_kib=growth // 1024)
    assert growth < 16 * MIB, f"{growth / MIB:.1f} MiB"


async def test_many_large_messages_share_a_small_budget(tmp_path: Path) -> None:
    mails = [large_mail(f"large-{number}", 3 * MIB) for number in range(12)]
    most = 0
    async with StreamingPop3(list(mails)).running() as pop, HashingSmtp().running() as hop:
        place = Place(tmp_path / "m", pop.port, hop.port)

        def look() -> None:
            nonlocal most
            most = max(most, len(spool_files(place.folder.state)))

        report = await place.poll(look)
        assert (report.failure, report.relayed, pop.mails) == (None, 12, [])
    assert {arrived(mail, hop).octets for mail in mails} == {mails[0].octets, mails[-1].octets}
    # 4 MiB of budget, and no message counts for less than one: four lie in files at once,
    # and for a moment those that have arrived, until their row is synced.
    assert 1 <= most <= 8


@pytest.mark.parametrize("eight_bit", [pytest.param(True, id="8BITMIME"), pytest.param(False, id="7bit")])
async def test_a_large_message_is_rewritten_where_it_must_be(tmp_path: Path, eight_bit: bool) -> None:
    """Raw 8-bit text for a next hop without 8BITMIME, and line ends that SMTP forbids."""
    eight = GeneratedMail("eight", "héllo wörld, and some more of it\r\n".encode(), 20_000)
    bare = GeneratedMail("bare", b"one\ntwo\rthree\r\n", 40_000)
    async with (
        StreamingPop3([eight, bare]).running() as pop,
        HashingSmtp(eight_bit=eight_bit).running() as hop,
    ):
        report = await Place(tmp_path / "m", pop.port, hop.port).poll()
        assert (report.failure, report.relayed, pop.mails) == (None, 2, [])
    assert arrived(GeneratedMail("bare", b"one\r\ntwo\r\nthree\r\n", 40_000), hop)
    as_it_was = [each for each in hop.accepted if each.digest == eight.digest]
    assert len(as_it_was) == eight_bit


@pytest.mark.parametrize("chunking", WAYS)
async def test_a_next_hop_that_stops_reading_is_given_up(tmp_path: Path, chunking: bool) -> None:
    """Nothing is in doubt: the end of the message was never sent."""
    mails = [large_mail("large", 32 * MIB)]
    hop = HashingSmtp(chunking=chunking, stops_after=MIB)
    async with StreamingPop3(mails).running() as pop, hop.running():
        place = Place(tmp_path / "m", pop.port, hop.port, final_timeout="1s")
        report = await place.poll()
    assert (report.relayed, report.deferred, len(pop.mails)) == (0, 1, 1)
    assert "in_doubt" not in place.log.getvalue()


@pytest.mark.parametrize("chunking", WAYS)
async def test_a_next_hop_that_has_enough_is_believed(tmp_path: Path, chunking: bool) -> None:
    """552 in the middle of a large message is about that one; the next is sent in another session."""
    mails = [large_mail("large", 32 * MIB), large_mail("small", 1000)]
    hop = HashingSmtp(chunking=chunking, refuses_after=MIB)
    async with StreamingPop3(mails).running() as pop, hop.running():
        place = Place(tmp_path / "m", pop.port, hop.port)
        report = await place.poll()
        assert (report.rejected, report.relayed, [mail.uidl for mail in pop.mails]) == (1, 1, ["large"])


# -- a full disk -------------------------------------------------------------------------------------


async def test_a_full_disk_costs_only_the_large_message_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("mailferry.services.arrival.FETCH_BACKOFF", Backoff(0.0, 0.0))
    mails = [large_mail("small-1", 1000), large_mail("large", 2 * MIB), large_mail("small-2", 1000)]
    pop = StreamingPop3(list(mails))
    async with pop.running(), HashingSmtp().running() as hop:
        place = Place(tmp_path / "m", pop.port, hop.port)
        with monkeypatch.context() as patch:
            patch.setattr(SpoolFile, "_leave_room", full)
            report = await place.poll()
        assert (report.failure, report.relayed) == (None, 2)
        assert [mail.uidl for mail in pop.mails] == ["large"]
        assert "cannot be spooled" in place.log.getvalue()
        assert "No space left" in place.log.getvalue()
        report = await place.poll()
        assert (report.failure, report.relayed, pop.mails) == (None, 1, [])
    assert all(arrived(mail, hop) for mail in mails)
