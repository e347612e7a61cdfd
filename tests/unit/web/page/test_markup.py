"""Every page is whole, safe and readable HTML: for browsers, for screen readers, and against its own content."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser

import pytest

from mailferry.message.received import message_name
from support.page_rig import PageRig, page_rig
from support.page_town import FIRST_NUMBER, HOSTILE, QUARANTINED

PATHS = [
    "/",
    "/?drop=zzz&ill=1",
    "/messages",
    "/messages?q=zzz",
    f"/message/{message_name(FIRST_NUMBER + 3)}",
    f"/message/{message_name(FIRST_NUMBER + 5)}",
    "/message/0",
    "/maildrop/info",
    "/maildrop/archive-2019",
    "/maildrop/nobody",
    "/quarantine",
    f"/quarantine/{QUARANTINED}",
    "/quarantine/fedcba9876543210",
    "/login",
]
VOID = {"meta", "link", "input", "br", "img"}
SVG_LEAVES = {"path", "circle", "rect"}
LABELLED = {"input", "select", "textarea"}


class Page(HTMLParser):
    """A page, checked while it is read."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.open: list[tuple[str, dict[str, str]]] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.headings: list[int] = []
        self.words = ""
        self._names: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._start(tag, attrs)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = self._start(tag, attrs)
        if tag not in VOID:
            self.open.append((tag, attributes))
            self._names.append(attributes.get("aria-label", ""))

    def handle_endtag(self, tag: str) -> None:
        opened, attributes = self.open.pop()
        assert opened == tag, f"<{opened}> is closed by </{tag}>"
        name = self._names.pop()
        if self._names:
            self._names[-1] += name
        if (
            tag in {"a", "button", "h1", "h2", "h3", "caption", "summary", "label", "title"}
            and not name.strip()
        ):
            self.problems.append(f"<{tag} {attributes}> has no words")

    def handle_data(self, data: str) -> None:
        self.words += data
        if self._names:
            self._names[-1] += data

    def _start(self, tag: str, attrs: list[tuple[str, str | None]]) -> dict[str, str]:
        attributes = {name: value or "" for name, value in attrs}
        self.seen.append((tag, attributes))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag in {"style", "iframe", "object", "embed", "base"} or (
            tag == "script" and "src" not in attributes
        ):
            self.problems.append(f"<{tag}> within the page")
        for name, value in attributes.items():
            if name.startswith("on") or name == "style":
                self.problems.append(f"{name} of <{tag}>")
            if name in {"href", "src", "action"} and not re.match(r"[/#](?!/)", value):
                self.problems.append(f"<{tag} {name}={value!r}> leads elsewhere")
        return attributes

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.seen if name == tag]


def problems_of(text: str) -> list[str]:
    page = Page(text)
    return [*page.problems, *_about_ids(page), *_about_elements(page), *_about_structure(page)]


def _about_ids(page: Page) -> Iterator[str]:
    ids = [attributes["id"] for _, attributes in page.seen if "id" in attributes]
    yield from (f"id {name} twice" for name in {name for name in ids if ids.count(name) > 1})
    for _, attributes in page.seen:
        for key in ("aria-labelledby", "aria-describedby"):
            if key in attributes and attributes[key] not in ids:
                yield f"{key}={attributes[key]} leads nowhere"


def _about_elements(page: Page) -> Iterator[str]:
    labels = {attributes.get("for") for attributes in page.all("label")}
    for tag, attributes in page.seen:
        hidden = attributes.get("type") == "hidden" or "hidden" in attributes
        within_a_label = attributes.get("type") == "checkbox"
        if tag in LABELLED and not (hidden or within_a_label) and attributes.get("id") not in labels:
            yield f"<{tag} {attributes}> has no label"
        if tag == "svg" and not (attributes.get("aria-hidden") == "true" or attributes.get("aria-label")):
            yield "an svg says nothing"
        if tag == "th" and "scope" not in attributes:
            yield "a th without scope"


def _about_structure(page: Page) -> Iterator[str]:
    if len(page.all("table")) != len(page.all("caption")):
        yield "a table without caption"
    steps = zip(page.headings, page.headings[1:], strict=False)
    if page.headings.count(1) != 1 or any(after - before > 1 for before, after in steps):
        yield f"headings {page.headings}"
    yield from (f"no <{tag}>" for tag in ("main", "header", "footer", "nav", "title") if not page.all(tag))
    navs = [attributes.get("aria-label") for attributes in page.all("nav")]
    if len(set(navs)) != len(navs):
        yield "two navs of one name"
    if page.all("html") != [{"lang": "en"}]:
        yield "no language"


@pytest.fixture(params=[True, False], ids=["logged in", "not logged in"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[PageRig]:
    async with page_rig() as rig:
        if request.param:
            await rig.log_in()
        yield rig


async def test_every_page_is_well_formed_labelled_and_without_anything_inline(rig: PageRig) -> None:
    for path in PATHS:
        _, text = await rig.get(path)
        assert problems_of(text) == [], path


async def test_what_strangers_wrote_is_text_and_steers_nothing(rig: PageRig) -> None:
    shown = 0
    for path in PATHS:
        _, text = await rig.get(path)
        page = Page(text)
        assert [each.get("src", "")[:8] for each in page.all("script")] == ["/static/"], path
        assert "<script>alert" not in text, path
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text), path
        shown += page.words.count('"><script>alert(1)</script>\\x1b[2J\\u202egnp.exe\\x00&lt;')
    assert shown >= 8, "it is shown as it is"


async def test_trouble_in_words_of_a_peer_is_escaped_too(rig: PageRig) -> None:
    rig.town.problems = [HOSTILE]
    _, text = await rig.get("/")
    assert "<script>alert" not in text
    assert problems_of(text) == []


async def test_the_first_page_tells_what_matters_in_words(rig: PageRig) -> None:
    _, text = await rig.get("/")
    words = " ".join(Page(text).words.split())
    for said in (
        "3 of 12 maildrops and 1 destination need a look",
        "Login refused: pop.example.net: login refused: -ERR [AUTH] wrong user name or password 7 min ago, 4 times in a row; again in 58 min",
        "paused by hand Goes on in 40 min.",
        "polling now",
        "The server did not answer in time: backup.example.org:25",
        "253 2.0.0 Ok, 4 pending messages",
        "Takes mail on 192.0.2.25:25.",
        "Angebot Nr. 4711 für Herrn Müller",
        "Отчёт за июнь",
        "1 message in quarantine",
    ):
        assert said in words


async def test_a_message_has_its_story(rig: PageRig) -> None:
    _, text = await rig.get(f"/message/{message_name(FIRST_NUMBER + 1)}")
    words = " ".join(Page(text).words.split())
    steps = [
        "Listed by its server",
        "Fetched",
        "Accepted by office",
        "Accepted by vault",
        "Deleted from the server",
    ]
    places = [words.index(step) for step in steps]
    assert places == sorted(places)
    assert "2.0.0 Ok: queued as 4XkD2n3Zbz" in words
    _, text = await rig.get(f"/message/{message_name(FIRST_NUMBER + 3)}")
    assert "3 attempts; tried again in 15 min." in " ".join(Page(text).words.split())


async def test_the_checks_of_this_file_find_something() -> None:
    bad = '<html><style></style><h1></h1><h3>x</h3><svg></svg><a href="//evil.example">x</a><input id="a"></html>'
    found = problems_of(bad)
    for word in (
        "<style>",
        "no words",
        "headings",
        "svg",
        "leads elsewhere",
        "no label",
        "no <main>",
        "language",
    ):
        assert any(word in problem for problem in found), word
