"""Who may ask, what answers say to browsers, and what becomes of trouble."""

from __future__ import annotations

import json

import pytest

from mailferry.errors import StoreError
from mailferry.message.received import message_name
from mailferry.model import MessageState
from mailferry.web.page import threads
from mailferry.web.page.model import MessageQuery, Wanted
from mailferry.web.page.viewer import LIVE_FIELD
from support.page_rig import page_rig
from support.page_town import FIRST_NUMBER, QUARANTINED


async def test_headers_let_the_page_do_little() -> None:
    async with page_rig() as rig, rig.client.get("/") as answer:
        policy = dict(
            part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        for kind in ("script-src", "style-src", "form-action", "connect-src", "img-src"):
            assert policy[kind] == "'self'"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Server"] == "mailferry"
        assert not answer.cookies


STRANGERS = ["evil.example", "127.0.0.1.evil.example:9465", "", "[::ffff:7f00:1]", "a b", "[", "localhost:x"]
OUR_NAMES = ["localhost", "LocalHost:9465", "127.0.0.1", "[::1]:80", "[0:0:0:0:0:0:0:1]", "me.localhost"]


@pytest.mark.parametrize("path", ["/", "/messages", "/api/status", "/login", "/static/0/page.css"])
async def test_a_name_that_is_not_ours_gets_nothing(path: str) -> None:
    async with page_rig() as rig:
        for host in STRANGERS:
            status, text = await rig.get(path, Host=host)
            assert status == 421, host
            assert "relay.example.org" not in text


async def test_names_of_this_machine_and_those_that_are_configured() -> None:
    async with page_rig(hosts=("status.example.org",)) as rig:
        for host in [*OUR_NAMES, "status.example.org."]:
            assert (await rig.get("/", Host=host))[0] == 200, host


async def test_metrics_and_health_are_asked_under_any_name_as_before() -> None:
    async with page_rig() as rig:
        for path in ("/metrics", "/healthz", "/readyz"):
            assert (await rig.get(path, Host="prometheus.example"))[0] == 200


async def test_our_own_files_may_be_kept_and_others_are_not_there() -> None:
    async with page_rig() as rig:
        _, text = await rig.get("/")
        paths = {part.split('"')[0] for part in text.split('="')[1:] if part.startswith("/static/")}
        assert len(paths) == 3
        for path in paths:
            async with rig.client.get(path) as answer:
                assert answer.status == 200
                assert "immutable" in answer.headers["Cache-Control"]
                assert answer.content_type in {"text/css", "text/javascript", "image/svg+xml"}
        for path in ("/static/0/page.css", "/static/x/..%2f..%2fpages.py", "/static/x/page.py"):
            assert (await rig.get(path))[0] == 404


async def test_what_is_asked_for_reaches_the_source_within_bounds() -> None:
    async with page_rig() as rig:
        await rig.get("/?drop=%20info%20&ill=1&page=3")
        await rig.get("/?page=99999999999999&drop=" + "x" * 1000)
        await rig.get("/?page=-1")
        await rig.get("/messages?q=a&maildrop=b&state=rejected&before=12.5_77")
        await rig.get("/messages?state=nonsense&before=nan_1")
        asked = [
            each for each in rig.town.asked if isinstance(each, Wanted) or each != MessageQuery(limit=10)
        ]
        queries = [each for each in asked if isinstance(each, MessageQuery)]
        assert asked[0] == Wanted("info", True, 3)
        wanted = [each for each in asked if isinstance(each, Wanted)]
        assert (wanted[1].page, len(wanted[1].text), wanted[2].page) == (1, 200, 1)
        assert queries == [MessageQuery("a", "b", MessageState.REJECTED, (12.5, 77)), MessageQuery()]


async def test_older_messages_are_one_link_away() -> None:
    async with page_rig() as rig:
        _, text = await rig.get("/messages")
        link = text.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
        _, older = await rig.get(link)
        assert "part 59" in older
        assert 'rel="next"' not in older
        _, slow = await rig.get("/messages?q=slow")
        assert "No message fits so far." in slow
        assert 'href="/messages?q=slow&amp;before=1767268790.5_77">Search further back' in slow


async def test_trouble_is_told_in_words_and_only_where_it_is() -> None:
    async with page_rig() as rig:
        rig.town.trouble = StoreError("/state/ledger.sqlite3: disk I/O error")
        status, text = await rig.get("/messages")
        assert (status, "disk I/O error" in text) == (200, True)
        status, text = await rig.get("/")
        assert (status, "disk I/O error" in text) == (503, True)


async def test_too_many_pages_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with page_rig() as rig:
        monkeypatch.setattr(threads, "MOST_WAITING", -threads.THREADS)
        assert (await rig.get("/")) == (
            503,
            "503: too many pages are asked for at once; try again in a moment",
        )
        monkeypatch.undo()
        assert (await rig.get("/"))[0] == 200


async def test_a_notice_waits_for_a_page_that_shows_it() -> None:
    async with page_rig() as rig:
        await rig.log_in()
        form = {"csrf": await rig.csrf(), "action": "resume", "target": "maildrop.alice", "back": "/"}
        await rig.post("/act", form)
        assert "alice goes on" not in (await rig.get("/", **{LIVE_FIELD: "1"}))[1]
        assert "alice goes on" in (await rig.get("/"))[1]
        assert "alice goes on" not in (await rig.get("/"))[1]


async def test_the_same_as_json() -> None:
    async with page_rig() as rig:
        status, text = await rig.get("/api/status?drop=info")
        document = json.loads(text)
        assert status == 200
        assert [row["name"] for row in document["maildrops"]] == ["info"]
        assert document["maildrops"][0]["not_before"] == "2026-01-01T12:58:20+00:00"
        assert document["totals"]["maildrops_ill"] == 3
        assert len(document["day"]["relayed"]) == 24


PRIVATE = ("ann@example.org", "Angebot", "meeting", "alert(1)")
WITH_MAIL = [
    "/",
    "/messages",
    f"/message/{message_name(FIRST_NUMBER + 1)}",
    "/maildrop/alice",
    "/quarantine",
    f"/quarantine/{QUARANTINED}",
    "/api/status",
]


@pytest.mark.parametrize(
    ("shown", "logged_in", "visible"),
    [("login", False, False), ("login", True, True), ("never", True, False)],
)
async def test_mail_is_hidden_from_who_may_not_see_it(shown: str, logged_in: bool, visible: bool) -> None:
    async with page_rig(shown=shown) as rig:
        if logged_in:
            await rig.log_in()
        seen = ""
        for path in WITH_MAIL:
            seen += (await rig.get(path))[1]
        assert all((word in seen) is visible for word in PRIVATE)
        assert "branch-berlin" in seen, "how maildrops fare is shown"


async def test_without_a_token_nobody_can_log_in_or_do_anything() -> None:
    async with page_rig(acts=False) as rig:
        _, text = await rig.get("/")
        assert "/login" not in text
        assert "<button" not in text.replace('<button type="submit">Filter', "").replace(
            '<button type="submit">Search', ""
        )
        for path in ("/login", "/act", "/logout"):
            assert (await rig.post(path, {"token": "x"})).status == 404


async def test_a_page_that_renews_itself_does_not_keep_a_session_alive() -> None:
    async with page_rig() as rig:
        await rig.log_in()
        for minutes in range(0, 59, 10):
            rig.time[0] = 1000.0 + 60 * minutes
            assert "Log out" in (await rig.get("/", **{LIVE_FIELD: "1"}))[1]
        rig.time[0] = 1000.0 + 3601
        assert "Log out" not in (await rig.get("/", **{LIVE_FIELD: "1"}))[1]
