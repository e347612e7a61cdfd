"""Sessions by hand and the live check over real sockets, against servers that do as they are told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailferry.assembly.live import LiveCheck, LiveResult, LiveState
from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.probe_report import Peer, ProbeReport
from mailferry.config import load_settings
from mailferry.errors import LocalProtocolError, MailferryError, TlsError
from mailferry.net.by_hand import HELD_OCTETS
from mailferry.net.certificates import WrongCertificateError
from mailferry.net.credentials import Credentials
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.opening import Moment, Stage
from mailferry.net.pop3_connector import Pop3Settings
from mailferry.net.pop3_probe import WHOLE_OCTETS, Pop3Probe
from mailferry.net.smtp_connector import SmtpSettings
from mailferry.net.smtp_probe import SmtpProbe
from mailferry.protocol import pop3_by_hand, smtp_by_hand
from mailferry.sandbox.maildrop import SandboxFeatures, SandboxMaildrop
from support.certificates import LocalAuthority
from support.clients import running
from support.configs import PASSWORD, ConfigFolder
from support.faults import GREETING, Close, Fault, Stall
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import ScriptedSmtpServer, SmtpFeatures

SECONDS = 1.0
ALICE = Credentials("alice", password=lambda: PASSWORD)
SMALL = b"From: a@example.org\r\nSubject: =?koi8-r?B?8NLJ18XU?=\r\n\r\nsmall\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"x" * 76 + b"\r\n" + b"y" * WHOLE_OCTETS + b"\r\n"


def pop3_server(*faults: Fault, messages: int = 3, **more: Any) -> ScriptedPop3Server:
    drop = SandboxMaildrop(PASSWORD, [SMALL] * messages)
    return ScriptedPop3Server({"alice": drop}, *faults, **more)


def link(port: int, tls: TlsMode = TlsMode.NONE, ca: Path | None = None, **more: Any) -> Endpoint:
    return Endpoint(
        "localhost", port, tls, ca_file=ca, connect_timeout_seconds=5.0, timeout_seconds=SECONDS, **more
    )


class Session:
    """A POP3 session by hand, and its dialogue."""

    def __init__(self, where: Endpoint, credentials: Credentials | None = ALICE) -> None:
        self.lines: list[str] = []
        settings = Pop3Settings(where, credentials, allow_cleartext=True)
        self.probe = Pop3Probe(settings, lambda way, text: self.lines.append(f"{way}: {text}"))

    async def do(self, line: str) -> Any:
        return await self.probe.perform(pop3_by_hand.command_by_hand(line))


def verbs(server: ScriptedPop3Server | ScriptedSmtpServer) -> list[bytes]:
    return [command.split()[0] for command in server.commands]


# -- where it fails ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "stage", "code"),
    [
        (Fault(GREETING, Stall()), Stage.GREETING, ExitCode.TEMPORARY),
        (Fault(GREETING, reply=b"-ERR [SYS/TEMP] full\r\n"), Stage.GREETING, ExitCode.TEMPORARY),
        (Fault(GREETING, reply=b"220 mx ESMTP\r\n"), Stage.GREETING, ExitCode.FAILED),
        (Fault(b"CAPA", Stall(4)), Stage.CAPABILITIES, ExitCode.TEMPORARY),
        (Fault(b"AUTH", reply=b"-ERR [AUTH] no\r\n"), Stage.LOGIN, ExitCode.NO_PERMISSION),
        (Fault(b"AUTH", reply=b"-ERR [IN-USE] locked\r\n"), Stage.LOGIN, ExitCode.TEMPORARY),
        (Fault(b"AUTH", reply=b"-ERR [SYS/PERM] gone\r\n"), Stage.LOGIN, ExitCode.FAILED),
        (Fault(b"AUTH", Close(0)), Stage.LOGIN, ExitCode.TEMPORARY),
    ],
)
async def test_a_maildrop_that_fails_tells_where(fault: Fault, stage: Stage, code: ExitCode) -> None:
    server = pop3_server(fault)
    async with running(server):
        session = Session(link(server.port))
        report = ProbeReport(Peer("pop3", "alice", link(server.port), "alice"), None)
        with pytest.raises(MailferryError) as failed:
            await session.probe.open()
    report.failed(failed.value, session.probe.opening)
    assert session.probe.opening.failed_at(failed.value) is stage
    assert report.document()["error"]["stage"] == stage.value
    assert report.exit_code() == code
    assert PASSWORD not in "".join(session.lines)


@pytest.mark.parametrize(
    ("fault", "stage"),
    [
        (Fault(GREETING, Stall()), Stage.GREETING),
        (Fault(GREETING, reply=b"554 5.7.1 no\r\n"), Stage.GREETING),
        (Fault(b"EHLO", Stall(5)), Stage.CAPABILITIES),
        (Fault(b"EHLO", reply=b"421 4.3.2 bye\r\n"), Stage.CAPABILITIES),
        (Fault(b"STARTTLS", reply=b"454 4.7.0 not now\r\n"), Stage.TLS),
        (Fault(b"STARTTLS", Close(0)), Stage.TLS),
        (Fault(b"AUTH", reply=b"535 5.7.8 no\r\n"), Stage.LOGIN),
        (Fault(b"AUTH", Stall()), Stage.LOGIN),
    ],
)
async def test_a_next_hop_that_fails_tells_where(
    fault: Fault, stage: Stage, tmp_path: Path, authority: LocalAuthority
) -> None:
    context = authority.good().server_context(tmp_path)
    server = ScriptedSmtpServer(fault, tls=context, credentials={"alice": PASSWORD})
    async with running(server):
        where = link(server.port, TlsMode.STARTTLS, authority.write_ca(tmp_path))
        probe = SmtpProbe(SmtpSettings(where, "me", credentials=ALICE), lambda *_: None)
        with pytest.raises(MailferryError) as failed:
            await probe.open()
    assert probe.opening.failed_at(failed.value) is stage


async def test_what_was_learned_before_a_failure_stays(tmp_path: Path, authority: LocalAuthority) -> None:
    context = authority.good().server_context(tmp_path)
    server = pop3_server(Fault(b"AUTH", reply=b"-ERR [AUTH] no\r\n"), tls=context)
    async with running(server):
        session = Session(link(server.port, TlsMode.STARTTLS, authority.write_ca(tmp_path)))
        with pytest.raises(MailferryError):
            await session.probe.open()
    opening = session.probe.opening
    assert opening.greeting.startswith("+OK")
    assert "STLS" in opening.offers[Moment.FIRST]
    assert "STLS" not in opening.offers[Moment.UNDER_TLS]
    assert Moment.LOGGED_IN not in opening.offers
    assert opening.tls is not None
    assert "localhost" in opening.tls.chain[0].names


# -- certificates ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [TlsMode.IMPLICIT, TlsMode.STARTTLS])
async def test_a_certificate_that_is_not_accepted_is_shown(
    mode: TlsMode, tmp_path: Path, authority: LocalAuthority
) -> None:
    wrong = authority.wrong_host()
    server = pop3_server(tls=wrong.server_context(tmp_path), implicit_tls=mode is TlsMode.IMPLICIT)
    async with running(server):
        session = Session(link(server.port, mode, authority.write_ca(tmp_path)))
        with pytest.raises(TlsError) as failed:
            await session.probe.open()
        assert session.probe.opening.refused_tls is None
        await session.probe.see_certificate(failed.value)
    shown = session.probe.opening.refused_tls
    assert shown is not None
    assert shown.chain[0].sha256 == wrong.fingerprint
    assert shown.chain[0].names
    assert set(verbs(server)) <= {b"CAPA", b"STLS"}  # nothing was said under a TLS that nobody vouches for


async def test_a_certificate_that_is_not_the_pinned_one_is_shown(
    tmp_path: Path, authority: LocalAuthority
) -> None:
    good = authority.good()
    server = ScriptedSmtpServer(tls=good.server_context(tmp_path), implicit_tls=True)
    async with running(server):
        where = link(server.port, TlsMode.IMPLICIT, fingerprint="0" * 64)
        probe = SmtpProbe(SmtpSettings(where, "me", credentials=ALICE), lambda *_: None)
        with pytest.raises(WrongCertificateError) as failed:
            await probe.open()
        await probe.see_certificate(failed.value)
        assert server.counts["sessions"] == 1
        pinned = SmtpSettings(replace(where, fingerprint=good.fingerprint), "me")
        probe = SmtpProbe(pinned, lambda *_: None)
        await probe.open()
        await probe.close()
    assert probe.opening.tls is not None
    assert probe.opening.tls.chain[0].subject  # also where nothing was verified


async def test_no_second_look_where_tls_was_not_the_reason() -> None:
    server = pop3_server(Fault(b"AUTH", reply=b"-ERR [AUTH] no\r\n"))
    async with running(server):
        session = Session(link(server.port))
        with pytest.raises(MailferryError) as failed:
            await session.probe.open()
        await session.probe.see_certificate(failed.value)
    assert session.probe.opening.refused_tls is None
    assert verbs(server).count(b"CAPA") == 1


# -- POP3 by hand -----------------------------------------------------------------------------------


async def test_nothing_is_deleted_and_rset_goes_before_quit() -> None:
    server = pop3_server()
    async with running(server):
        session = Session(link(server.port))
        await session.probe.open()
        assert (await session.do("STAT")).ok
        assert (await session.do("RETR 1")).body == SMALL
        assert await session.probe.close()
    assert verbs(server)[-4:] == [b"STAT", b"RETR", b"RSET", b"QUIT"]
    assert len(server.maildrops["alice"].snapshot()) == 3


@pytest.mark.parametrize(
    ("lines", "left"), [(["DELE 2"], 2), (["DELE 1", "RSET"], 3), (["DELE 1", "RSET", "DELE 3"], 2)]
)
async def test_dele_by_hand_deletes(lines: list[str], left: int) -> None:
    server = pop3_server()
    async with running(server):
        session = Session(link(server.port))
        await session.probe.open()
        for line in lines:
            assert (await session.do(line)).ok
        assert await session.probe.close()
    assert len(server.maildrops["alice"].snapshot()) == left


async def test_a_server_without_rset_gets_no_quit() -> None:
    server = pop3_server(Fault(b"RSET", reply=b"-ERR what\r\n"))
    async with running(server):
        session = Session(link(server.port))
        await session.probe.open()
        assert not await session.probe.close()
    assert b"QUIT" not in verbs(server)


async def test_a_refusal_is_an_answer_and_a_lost_link_is_not() -> None:
    server = pop3_server(Fault(b"NOOP", Close(0)))
    async with running(server):
        session = Session(link(server.port))
        await session.probe.open()
        refused = await session.do("UIDL 9")
        assert (refused.ok, refused.verb, refused.reply[:4]) == (False, "UIDL", "-ERR")
        with pytest.raises(MailferryError):
            await session.do("NOOP")
        assert not session.probe.alive
        assert not await session.probe.close()


async def test_without_a_login_little_is_legal_and_the_session_lives_on() -> None:
    server = pop3_server()
    async with running(server):
        session = Session(link(server.port), credentials=None)
        await session.probe.open()
        with pytest.raises(LocalProtocolError, match="needs a login"):
            await session.do("STAT")
        assert (await session.do("CAPA")).ok
        assert await session.probe.close()
    assert verbs(server) == [b"CAPA", b"CAPA", b"QUIT"]


async def test_a_message_beyond_memory_is_kept_in_part() -> None:
    server = pop3_server(messages=0)
    server.maildrops["alice"].append(
        b"Subject: x\r\n\r\n" + (b"z" * 1022 + b"\r\n") * (HELD_OCTETS // 1024 + 9)
    )
    async with running(server):
        session = Session(link(server.port))
        await session.probe.open()
        answer = await session.do("RETR 1")
        assert (len(answer.body), answer.octets > HELD_OCTETS) == (HELD_OCTETS, True)
        assert await session.probe.close()


# -- the listing --------------------------------------------------------------------------------------


async def test_the_newest_are_listed_and_never_more() -> None:
    server = pop3_server(messages=9)
    async with running(server):
        session = Session(link(server.port))
        await session.probe.open()
        glance = await session.probe.glance(4)
        await session.probe.close()
    assert [message.message_number for message in glance.messages] == [6, 7, 8, 9]
    assert (glance.count, glance.messages[0].summary.subject) == (9, "Привет")
    assert verbs(server).count(b"TOP") == 4
    assert b"RETR" not in verbs(server)


async def test_a_maildrop_of_many_is_not_listed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailferry.net.pop3_probe._LISTED_AT_ONCE", 5)
    server = pop3_server(messages=9)
    async with running(server):
        session = Session(link(server.port))
        await session.probe.open()
        glance = await session.probe.glance(2)
        await session.probe.close()
    assert [message.message_number for message in glance.messages] == [8, 9]
    assert all(message.uidl for message in glance.messages)
    assert b"LIST 8" in server.commands
    assert b"LIST" not in server.commands


@pytest.mark.parametrize("expire", [None, 0])
async def test_without_top_small_messages_are_fetched_and_large_are_not(expire: int | None) -> None:
    server = pop3_server(messages=1, features=SandboxFeatures(has_top=False, expire_days=expire))
    server.maildrops["alice"].append(LARGE)
    async with running(server):
        session = Session(link(server.port))
        await session.probe.open()
        small, large = (await session.probe.glance(10)).messages
        await session.probe.close()
    assert large.summary is None
    assert "no TOP" in large.problem
    # EXPIRE 0 deletes what was fetched: then not even the small one is (RFC 2449 s.6.7).
    assert (small.summary is None) is (expire == 0)
    assert verbs(server).count(b"RETR") == (0 if expire == 0 else 1)
    assert len(server.maildrops["alice"].snapshot()) == 2


async def test_a_session_that_dies_in_a_listing_says_so() -> None:
    server = pop3_server(Fault(b"TOP", Close(3), nth=2))
    async with running(server):
        session = Session(link(server.port))
        await session.probe.open()
        with pytest.raises(MailferryError):
            await session.probe.glance(10)


async def test_one_header_that_is_refused_costs_that_one() -> None:
    refusal = Fault(b"TOP", reply=b"-ERR [SYS/TEMP] no\r\n", nth=2)
    server = pop3_server(refusal, Fault(b"RETR", reply=b"-ERR no\r\n"))
    async with running(server):
        session = Session(link(server.port))
        await session.probe.open()
        glance = await session.probe.glance(10)
        await session.probe.close()
    assert [message.summary is None for message in glance.messages] == [False, True, False]
    assert "RETR refused" in glance.messages[1].problem


# -- SMTP by hand ---------------------------------------------------------------------------------------


async def test_any_verb_has_its_reply() -> None:
    server = ScriptedSmtpServer(
        Fault(b"EXPN", reply=b"250-Staff <staff@example.org>\r\n250 Bob <bob@example.org>\r\n"),
        Fault(b"VRFY", reply=b"252 2.0.0 cannot say\r\n"),
        Fault(b"XYZZY", reply=b"550 5.1.1 nothing happens \x1b[2J\r\n"),
    )
    lines: list[str] = []
    async with running(server):
        settings = SmtpSettings(link(server.port), "me")
        probe = SmtpProbe(settings, lambda way, text: lines.append(f"{way}: {text}"))
        await probe.open()
        said = {}
        for line in ("EXPN staff", "VRFY bob", "xyzzy", "ETRN #queue", "MAIL FROM:<a@example.org>"):
            said[line] = await probe.perform(smtp_by_hand.command_by_hand(line))
        await probe.close()
    assert said["EXPN staff"].reply == "250 Staff <staff@example.org> / Bob <bob@example.org>"
    assert said["VRFY bob"].ok
    assert (said["xyzzy"].ok, said["xyzzy"].reply) == (False, "550 5.1.1 nothing happens ?[2J")
    assert said["ETRN #queue"].ok
    assert "reply: 250 Bob <bob@example.org>" in lines
    assert verbs(server)[-1] == b"QUIT"


async def test_a_421_ends_the_session() -> None:
    server = ScriptedSmtpServer(Fault(b"NOOP", reply=b"421 4.7.0 enough\r\n"))
    async with running(server):
        probe = SmtpProbe(SmtpSettings(link(server.port), "me"), lambda *_: None)
        await probe.open()
        answer = await probe.perform(smtp_by_hand.command_by_hand("NOOP"))
        assert (answer.ok, answer.reply) == (False, "421 4.7.0 enough")
        assert not probe.alive
        probe.abort()


# -- check --live -----------------------------------------------------------------------------------------


async def look(
    configs: ConfigFolder, tables: dict[str, Any], patience: float = 20.0
) -> dict[str, LiveResult]:
    settings = load_settings(configs.write(tables), environ={})
    return {result.peer: result for result in await LiveCheck(settings, patience).run()}


def etrn(port: int, **more: str) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "tls": "none", "nodes": ["a.example.org"], **more}


async def test_peers_are_looked_at_side_by_side(tmp_path: Path) -> None:
    configs = ConfigFolder(tmp_path)
    hung = pop3_server(Fault(GREETING, Stall()))
    fine = pop3_server(features=SandboxFeatures(login_delay_seconds=900))
    busy = pop3_server(Fault(b"AUTH", reply=b"-ERR [IN-USE] locked\r\n"))
    hop = ScriptedSmtpServer(features=SmtpFeatures(size_octets=1000, pipelining=False))
    no_etrn = ScriptedSmtpServer(features=SmtpFeatures(etrn=False))
    async with running(hung), running(fine), running(busy), running(hop), running(no_etrn):
        began = asyncio.get_running_loop().time()
        tables = {
            **{f"maildrop.h{n}": configs.maildrop(hung.port, "alice") for n in range(4)},
            "maildrop.fine": configs.maildrop(fine.port, "alice", every="5m"),
            "maildrop.busy": configs.maildrop(busy.port, "alice"),
            "destination.hop": configs.smtp(hop.port),
            "etrn.yes": etrn(hop.port),
            "etrn.no": etrn(no_etrn.port),
        }
        found = await look(configs, tables, patience=3.0)
        took = asyncio.get_running_loop().time() - began
    states = {peer: result.state for peer, result in found.items()}
    assert states == {
        **{f"maildrop.h{n}": LiveState.FAILED for n in range(4)},
        "maildrop.fine": LiveState.OK,
        "maildrop.busy": LiveState.BUSY,
        "destination.hop": LiveState.OK,
        "etrn.yes": LiveState.OK,
        "etrn.no": LiveState.FAILED,
    }
    assert took < 15  # in turn, and at their leisure, the silent ones alone would take four minutes
    assert "not done within 3 s" in found["maildrop.h0"].problem
    assert any("LOGIN-DELAY 900" in note for note in found["maildrop.fine"].notes)
    assert [note.split(":")[0] for note in found["destination.hop"].notes] == ["no PIPELINING", "SIZE 1000"]
    assert found["etrn.no"].problem == "ETRN is not offered"
    assert b"MAIL" not in verbs(hop)
    assert b"ETRN" not in verbs(hop)
    assert verbs(fine)[-2:] == [b"RSET", b"QUIT"]


async def test_nobody_listens_for_the_mail(tmp_path: Path) -> None:
    configs = ConfigFolder(tmp_path)
    server = ScriptedSmtpServer()
    async with running(server):
        tables = {
            "destination.hop": configs.smtp(server.port),
            "etrn.x": etrn(server.port, check_listener="127.0.0.1:1"),
        }
        found = await look(configs, tables)
    assert found["destination.hop"].state is LiveState.OK
    assert "nobody would take the mail" in found["etrn.x"].problem


async def test_lmtp_is_looked_at_too(tmp_path: Path) -> None:
    configs = ConfigFolder(tmp_path)
    server = ScriptedSmtpServer(features=SmtpFeatures(lmtp=True))
    async with running(server):
        lmtp = configs.smtp(server.port, type="lmtp")
        found = await look(
            configs, {"destination.store": lmtp, "maildrop.a": configs.maildrop(1, "a", deliver=["store"])}
        )
    assert found["destination.store"].state is LiveState.OK
    assert verbs(server) == [b"LHLO", b"QUIT"]
