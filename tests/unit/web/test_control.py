from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from mailferry.errors import ControlError, UnknownTargetError
from mailferry.events import ControlUsed, Event
from mailferry.web.control import MAX_NAMES, ControlApi

Call = tuple[str, dict[str, Any]]


class FakeOperations:
    """Notes what is asked; answers with it, or raises."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.error: Exception | None = None

    def _do(self, call: str, **given: Any) -> dict[str, Any]:
        self.calls.append((call, given))
        if self.error is not None:
            raise self.error
        return {"did": call}

    async def status(self) -> dict[str, Any]:
        return self._do("status")

    async def poll(self, names: Sequence[str] | None, *, wait_seconds: float) -> dict[str, Any]:
        return self._do("poll", names=names, wait_seconds=wait_seconds)

    async def pause(self, names: Sequence[str] | None, *, seconds: float | None) -> dict[str, Any]:
        return self._do("pause", names=names, seconds=seconds)

    async def resume(self, names: Sequence[str] | None) -> dict[str, Any]:
        return self._do("resume", names=names)

    async def retry(self, maildrop: str | None, *, uidl: str | None) -> dict[str, Any]:
        return self._do("retry", maildrop=maildrop, uidl=uidl)

    async def ask(self, name: str, nodes: Sequence[str], *, force: bool, insist: bool) -> dict[str, Any]:
        return self._do("ask", name=name, nodes=nodes, force=force, insist=insist)

    async def reload(self) -> dict[str, Any]:
        return self._do("reload")

    async def traces(self) -> dict[str, Any]:
        return self._do("traces")

    async def trace(self, name: str, *, on: bool, seconds: float | None) -> dict[str, Any]:
        return self._do("trace", name=name, on=on, seconds=seconds)


class Api:
    """The routes, asked without a socket."""

    def __init__(self) -> None:
        self.operations = FakeOperations()
        self.told: list[Event] = []
        api = ControlApi(self.operations, self.told.append, lambda _request: "uid 7")
        self._handlers = {(route.method, route.path): route.handler for route in api.routes()}

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = make_mocked_request(method, path)
        request._read_bytes = data
        try:
            answer = await self._handlers[method, path](request)
        except web.HTTPException as refusal:
            return refusal.status, refusal.text
        return answer.status, json.loads(answer.body)


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.mark.parametrize(
    ("path", "body", "call", "used"),
    [
        ("poll", {"names": ["a"], "wait_seconds": 5}, ("poll", {"names": ["a"], "wait_seconds": 5.0}), "a"),
        ("poll", {"all": True}, ("poll", {"names": None, "wait_seconds": 0.0}), "all"),
        (
            "pause",
            {"names": ["a", "b"], "seconds": 60},
            ("pause", {"names": ["a", "b"], "seconds": 60.0}),
            "a b",
        ),
        ("pause", {"names": ["a"]}, ("pause", {"names": ["a"], "seconds": None}), "a"),
        ("resume", {"all": True}, ("resume", {"names": None}), "all"),
        ("retry", {"maildrop": "a"}, ("retry", {"maildrop": "a", "uidl": None}), "a"),
        (
            "ask",
            {"name": "etrn.home", "nodes": ["a.org"], "force": True},
            ("ask", {"name": "etrn.home", "nodes": ["a.org"], "force": True, "insist": False}),
            "etrn.home a.org",
        ),
        ("reload", None, ("reload", {}), ""),
        ("trace", {"name": "a", "on": True}, ("trace", {"name": "a", "on": True, "seconds": None}), "a on"),
    ],
)
async def test_what_is_asked_is_done_and_told(
    api: Api, path: str, body: object, call: Call, used: str
) -> None:
    status, answer = await api.ask("POST", f"/v1/{path}", body)
    assert (status, answer) == (200, {"did": path})
    assert api.operations.calls == [call]
    assert api.told == [ControlUsed(path, used, "uid 7")]


@pytest.mark.parametrize(("path", "call"), [("status", "status"), ("trace", "traces")])
async def test_looking_changes_nothing_and_is_not_told(api: Api, path: str, call: str) -> None:
    assert await api.ask("GET", f"/v1/{path}") == (200, {"did": call})
    assert api.told == []


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("poll", {}, 'give either "names" or "all": true'),
        ("poll", {"names": ["a"], "all": True}, 'give either "names" or "all": true'),
        ("poll", {"names": ["a"] * (MAX_NAMES + 1)}, "names: List should have at most"),
        ("poll", {"names": ["a"], "wait_seconds": 1e9}, "wait_seconds: "),
        ("poll", {"names": ["a"], "wait_seconds": "NaN"}, "wait_seconds: "),
        ("pause", {"names": ["a"], "seconds": 0}, "seconds: "),
        ("pause", {"names": ["a"], "for": 1}, "for: Extra inputs"),
        ("trace", {"name": "a"}, "on: Field required"),
        ("retry", b"{", "Invalid JSON"),
        ("retry", b"[]", "Input should be an object"),
    ],
)
async def test_what_makes_no_sense_does_nothing(api: Api, path: str, body: object, words: str) -> None:
    status, answer = await api.ask("POST", f"/v1/{path}", body)
    assert status == 400
    assert words in answer
    assert (api.operations.calls, api.told) == ([], [])


@pytest.mark.parametrize(
    ("error", "code"), [(UnknownTargetError("no such name"), 404), (ControlError("no such name"), 409)]
)
async def test_what_cannot_be_done_is_said(api: Api, error: Exception, code: int) -> None:
    api.operations.error = error
    assert await api.ask("POST", "/v1/resume", {"names": ["a"]}) == (code, {"error": "no such name"})


async def test_names_that_somebody_makes_up_do_not_flood_the_log(api: Api) -> None:
    await api.ask("POST", "/v1/resume", {"names": ["x" * 10_000]})
    (used,) = api.told
    assert isinstance(used, ControlUsed)
    assert len(used.targets) == 203
