"""Logging in and giving orders: only by forms of our own, only with the token, and never too often."""

from __future__ import annotations

import pytest

from mailferry.events import ControlUsed, PageLoggedIn, PageLoginRefused
from mailferry.message.received import message_name
from support.page_rig import TOKEN, PageRig, page_rig
from support.page_town import FIRST_NUMBER, QUARANTINED


async def test_the_right_token_opens_a_session_whose_cookie_is_not_the_token() -> None:
    async with page_rig() as rig:
        answer = await rig.log_in()
        assert (answer.status, answer.headers["Location"]) == (303, "/")
        cookie = answer.headers["Set-Cookie"]
        assert TOKEN not in cookie
        assert {part.strip() for part in cookie.split(";")[1:]} == {"HttpOnly", "Path=/", "SameSite=Strict"}
        assert "Log out" in (await rig.get("/"))[1]
        assert rig.events == [PageLoggedIn("127.0.0.1")]


async def test_over_tls_the_cookie_is_guarded_by_its_name() -> None:
    async with page_rig(hosts=("status.example.org",)) as rig:
        sent = {"Origin": "https://status.example.org", "Host": "status.example.org"}
        answer = await rig.post("/login", {"token": TOKEN}, sent)
        assert answer.headers["Set-Cookie"].startswith("__Host-mailferry=")
        assert "Secure" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize("given", ["", "a token that nobody guesse", TOKEN + " ", "\udcff", "x" * 5000])
async def test_another_token_opens_nothing(given: str) -> None:
    async with page_rig() as rig:
        answer = await rig.log_in(given.encode("utf-8", "replace").decode())
        assert answer.status == 403
        assert "Set-Cookie" not in answer.headers
        assert [type(event) for event in rig.events] == [PageLoginRefused]
        assert given not in repr(rig.events) or not given
        assert TOKEN not in repr(rig.events) + await answer.text()


async def test_attempts_are_limited_even_with_the_right_token() -> None:
    async with page_rig() as rig:
        for _ in range(5):
            assert (await rig.log_in("wrong")).status == 403
        answer = await rig.log_in()
        assert (answer.status, answer.headers["Retry-After"]) == (429, "61")
        rig.time[0] += 61
        assert (await rig.log_in()).status == 303


async def test_a_token_that_cannot_be_read_or_is_too_short_opens_nothing() -> None:
    async with page_rig() as rig:
        rig.token.clear()
        answer = await rig.log_in("")
        assert (answer.status, "cannot be read" in await answer.text()) == (403, True)
        rig.token.append("short")
        answer = await rig.log_in("short")
        assert (answer.status, "fewer than 16" in await answer.text()) == (403, True)


async def test_a_new_token_ends_the_sessions_of_the_old_one() -> None:
    async with page_rig() as rig:
        await rig.log_in()
        old = {cookie.key: cookie.value for cookie in rig.client.session.cookie_jar}
        rig.token[0] = "another token of some length"
        await rig.log_in("another token of some length")
        rig.client.session.cookie_jar.clear()
        _, text = await rig.get("/", Cookie=f"mailferry={old['mailferry']}")
        assert "Log out" not in text


async def test_a_session_ends_by_logging_out_and_by_time() -> None:
    async with page_rig() as rig:
        await rig.log_in()
        number = next(iter(rig.client.session.cookie_jar)).value
        await rig.post("/logout", {"csrf": "wrong"})
        _, text = await rig.get("/", Cookie=f"mailferry={number}")
        assert "Log out" in text, "a forged form does not log out"
        csrf = text.split('name="csrf" value="')[1].split('"')[0]
        await rig.post("/logout", {"csrf": csrf}, {"Origin": rig.origin, "Cookie": f"mailferry={number}"})
        assert "Log out" not in (await rig.get("/", Cookie=f"mailferry={number}"))[1]
        await rig.log_in()
        for _ in range(13):
            assert "Log out" in (await rig.get("/"))[1]
            rig.time[0] += 3400
        assert "Log out" not in (await rig.get("/"))[1], "twelve hours are the most"


ORDERS = [
    ("poll", "maildrop.alice", {}, ("poll", "maildrop.alice"), "alice is being polled."),
    ("pause", "maildrop.alice", {}, ("pause", "maildrop.alice", 3600.0), "alice is paused for 60 min."),
    ("pause", "destination.office", {"seconds": "0"}, ("pause", "destination.office", None), "until it is resumed"),
    ("resume", "etrn.head-office", {}, ("resume", "etrn.head-office"), "head-office goes on."),
    ("retry-all", "maildrop.alice", {}, ("retry", "maildrop.alice", None), "2 messages will be tried again now."),
    ("release", QUARANTINED, {}, ("release", QUARANTINED), "Released: office: accepted."),
    (
        "retry",
        message_name(FIRST_NUMBER + 5),
        {},
        ("retry", "maildrop.alice", r"<script>\xff" + "\x1b"),
        "2 messages will be tried again now.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("action", "target", "more", "done", "told"), ORDERS, ids=[each[0] for each in ORDERS]
)
async def test_an_order_is_carried_out_and_told(
    action: str, target: str, more: dict[str, str], done: tuple[object, ...], told: str
) -> None:
    async with page_rig() as rig:
        await rig.log_in()
        assert told in await rig.act(action, target, **more)
        assert rig.hall.done == [done]
        assert rig.events[1:] == [ControlUsed(action, target, "status page, 127.0.0.1")]
        assert rig.town.forgotten == 1, "the next picture is a new one"


@pytest.mark.parametrize(
    ("action", "target", "more", "told"),
    [
        ("release", "../../etc/passwd", {}, "there is no such message"),
        ("pause", "maildrop.alice", {"seconds": "99999999"}, "a year at most"),
        ("pause", "maildrop.alice", {"seconds": "soon"}, "a year at most"),
        ("retry", "nonsense!", {}, "does not know that message"),
    ],
)
async def test_what_cannot_be_done_is_told(action: str, target: str, more: dict[str, str], told: str) -> None:
    async with page_rig() as rig:
        await rig.log_in()
        assert told in await rig.act(action, target, **more)
        assert [each for each in rig.hall.done if each[0] != "release"] == []


async def test_a_paused_maildrop_is_not_polled_in_silence() -> None:
    async with page_rig() as rig:
        await rig.log_in()
        rig.hall.poll_state = "paused"
        assert "resume it first" in await rig.act("poll", "maildrop.alice")


async def forged(rig: PageRig, headers: dict[str, str]) -> int:
    form = {"csrf": await rig.csrf(), "action": "poll", "target": "maildrop.alice"}
    return (await rig.post("/act", form, headers)).status


async def test_a_form_of_another_origin_is_refused() -> None:
    async with page_rig(hosts=("status.example.org",)) as rig:
        await rig.log_in()
        port = rig.client.port
        for headers in (
            {},
            {"Origin": "null"},
            {"Origin": "http://evil.example"},
            {"Origin": f"http://127.0.0.1:{(port or 0) + 1}"},
            {"Origin": f"http://localhost:{port}"},
            {"Origin": "http://127.0.0.1"},
            {"Origin": rig.origin, "Sec-Fetch-Site": "cross-site"},
            {"Origin": rig.origin, "Sec-Fetch-Site": "same-site"},
            {"Origin": f"file://127.0.0.1:{port}"},
            {"Origin": f"http://127.0.0.1:{port}@evil.example"},
            {"Origin": "http://127.0.0.1:x"},
            {"Origin": "http://status.example.org"},
            {"Origin": "https://status.example.org:8443"},
            {"Origin": "https://localhost"},
        ):
            assert await forged(rig, headers) == 403, headers
        assert rig.hall.done == []
        assert await forged(rig, {"Origin": rig.origin}) == 303
        assert await forged(rig, {"Origin": "https://status.example.org"}) == 303, "a proxy that changes Host"


async def test_a_form_without_the_token_of_the_session_is_refused() -> None:
    async with page_rig() as rig:
        form = {"action": "poll", "target": "maildrop.alice"}
        assert (await rig.post("/act", form)).status == 403
        await rig.log_in()
        for csrf in ("", "x", (await rig.csrf())[:-1]):
            assert (await rig.post("/act", form | {"csrf": csrf})).status == 403
        assert rig.hall.done == []


async def test_nothing_is_done_by_get() -> None:
    async with page_rig() as rig:
        await rig.log_in()
        csrf = await rig.csrf()
        status, _ = await rig.get(f"/act?csrf={csrf}&action=poll&target=maildrop.alice")
        assert status == 405
        assert (await rig.get(f"/logout?csrf={csrf}"))[0] == 405
        assert rig.hall.done == []


ELSEWHERE = [
    "//evil.example", "/\\evil.example", "https://evil.example", "evil", "", "/\t/evil.example", "/a\r\nX: y", "/é",
]  # fmt: skip


async def test_a_form_leads_back_to_this_origin_only() -> None:
    async with page_rig() as rig:
        await rig.log_in()
        form = {"csrf": await rig.csrf(), "action": "poll", "target": "maildrop.alice"}
        for back in ELSEWHERE:
            assert (await rig.post("/act", form | {"back": back})).headers["Location"] == "/", back
        answer = await rig.post("/act", form | {"back": "/messages?q=a%20b"})
        assert answer.headers["Location"] == "/messages?q=a%20b"


async def test_what_is_no_form_or_too_large_is_refused() -> None:
    async with page_rig() as rig:
        headers = {"Origin": rig.origin}
        for content_type, body, status in (
            ("application/json", b"{}", 415),
            ("multipart/form-data; boundary=x", b"--x--", 415),
            ("application/x-www-form-urlencoded", b"token=" + b"x" * 9000, 413),
            ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % number for number in range(30)), 400),
            ("application/x-www-form-urlencoded", b"token=%ff", 400),
            ("application/x-www-form-urlencoded", b"\xff", 400),
        ):
            sent = headers | {"Content-Type": content_type}
            async with rig.client.post("/login", data=body, headers=sent) as answer:
                assert answer.status == status
        await rig.log_in()
        for action, target in (("explode", "maildrop.alice"), ("poll", ""), ("poll", "x" * 201)):
            form = {"csrf": await rig.csrf(), "action": action, "target": target}
            assert (await rig.post("/act", form)).status == 400
