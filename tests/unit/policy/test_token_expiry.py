"""When an access token ends, where it tells."""

from __future__ import annotations

import base64
import json

import pytest

from mailferry.policy.token_expiry import token_expires_at


def jwt(claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.c2ln"


@pytest.mark.parametrize(("end", "expected"), [(1_900_000_000, 1_900_000_000.0), (1.5, 1.5)])
def test_a_json_web_token_names_its_end(end: float, expected: float) -> None:
    assert token_expires_at(jwt({"exp": end, "aud": "ä"})) == expected


@pytest.mark.parametrize(
    "token",
    [
        "",
        "ya29.a0AfB_opaque",
        "a.b.c",
        "e30.!!!.x",
        "....",
        jwt({}),
        jwt([]),
        jwt({"exp": "1900000000"}),
        jwt({"exp": True}),
        jwt({"exp": -1}),
        jwt({"exp": 1e300}),
        jwt({"exp": None}),
        "e30." + base64.urlsafe_b64encode(b"[" * 40_000).decode() + ".x",
        "e30." + "A" * 100_000 + ".x",
        "e30.TmFO.x",
    ],
)
def test_of_any_other_nothing_is_known(token: str) -> None:
    assert token_expires_at(token) is None
