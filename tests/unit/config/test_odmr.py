"""A table with `mode = "odmr"`: what it must say, and what follows when it says no more."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mailferry.config.etrn import EtrnSettings

TABLE = {
    "mode": "odmr",
    "host": "odmr.example.net",
    "username": "customer",
    "password": {"env": "ODMR_PASSWORD"},
    "nodes": ["Example.ORG", "example.com"],
    "deliver": ["office"],
}


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODMR_PASSWORD", "correct horse")


def problem(**changes: object) -> str:
    with pytest.raises(ValidationError) as caught:
        EtrnSettings.model_validate(TABLE | changes)
    return "; ".join(str(error["msg"]) for error in caught.value.errors())


def test_the_port_is_366_whatever_tls_is_in_force() -> None:
    for tls in ("starttls", "implicit"):
        assert EtrnSettings.model_validate(TABLE | {"tls": tls}).resolved_port == 366  # RFC 2645 s.4
    assert EtrnSettings.model_validate(TABLE | {"port": 2525}).resolved_port == 2525


def test_what_odmr_does_not_know_is_refused() -> None:
    assert "neither @ nor #" in problem(nodes=["@example.org"])
    assert "a username" in problem(username=None, password=None)
    assert "at least one destination" in problem(deliver=[])
    assert "only with etrn" in problem(check_listener="mx.example.org:25")
