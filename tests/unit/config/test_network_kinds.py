from __future__ import annotations

import socket

import pytest

from mailferry.config.models import EtrnSettings, HttpSettings, SmtpDestinationSettings
from mailferry.config.network_kinds import (
    FALLBACK_PORTS,
    is_loopback,
    parse_address,
    parse_host,
    parse_name,
    resolve_port,
    service_port,
)


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("pop.example.net", "pop.example.net"),
        ("pop.example.net.", "pop.example.net."),
        ("localhost", "localhost"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("почта.example", "xn--80a1acny.example"),
    ],
)
def test_hosts(written: str, host: str) -> None:
    assert parse_host(written) == host


@pytest.mark.parametrize(
    "written",
    [
        "",
        "a b",
        "a..b",
        "-a.example",
        "pop.example:995",
        "[::1]",
        "pop3://x",
        "a\r\nb",
        "a\0b",
        5,
        None,
        "x" * 300,
    ],
)
def test_what_is_no_host(written: object) -> None:
    with pytest.raises(ValueError, match="must"):
        parse_host(written)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("mail.localhost", True),
        ("127.0.0.2", True),
        ("::1", True),
        ("192.0.2.1", False),
        ("localhost.example.org", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("written", ["alice@example.org", "a.b+c@x", "почта@пример.example", "a@[192.0.2.1]"])
def test_addresses(written: str) -> None:
    assert parse_address(written) == written


@pytest.mark.parametrize(
    "written",
    [
        "",
        "alice",
        "@example.org",
        "alice@",
        "al ice@example.org",
        "<alice@example.org>",
        "alice@example.org\r\nDATA",
        "alice\0@example.org",
        "alice@example.org,bob@example.org",
        "alice@exa mple.org",
        "alice@-.example",
        "x" * 65 + "@example.org",
        5,
        None,
    ],
)
def test_what_is_no_address(written: object) -> None:
    with pytest.raises(ValueError, match="must"):
        parse_address(written)


@pytest.mark.parametrize("written", ["a", "0", "head-office", "a.b_c", "x" * 64])
def test_names(written: str) -> None:
    assert parse_name(written) == written


@pytest.mark.parametrize("written", ["", "A", "-a", ".a", "a b", "a/b", "a\n", "x" * 65, "é", 5])
def test_what_is_no_name(written: object) -> None:
    with pytest.raises(ValueError, match="must be 1 to 64"):
        parse_name(written)


def test_service_names_are_known_without_etc_services(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str, protocol: str) -> int:
        raise OSError("service/proto not found")

    service_port.cache_clear()
    monkeypatch.setattr(socket, "getservbyname", unknown)
    try:
        assert {name: service_port(name) for name in FALLBACK_PORTS} == dict(FALLBACK_PORTS)
        assert service_port("pop4") is None
        with pytest.raises(ValueError, match="must be a number"):
            resolve_port("pop4")
    finally:
        service_port.cache_clear()


@pytest.mark.parametrize(("tls", "port"), [("implicit", 465), ("starttls", 587), ("none", 25)])
def test_default_port_of_a_smarthost(tls: str, port: int) -> None:
    table = {"host": "localhost", "recipients": ["a@example.org"], "tls": tls}
    assert SmtpDestinationSettings.model_validate(table).resolved_port == port


@pytest.mark.parametrize(("tls", "port"), [("implicit", 465), ("starttls", 25), ("none", 25)])
def test_default_port_for_etrn(tls: str, port: int) -> None:
    table = {"host": "localhost", "nodes": ["example.org", "@example.org", "#queue"], "tls": tls}
    assert EtrnSettings.model_validate(table).resolved_port == port


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ("127.0.0.1:9465", "127.0.0.1", 9465),
        ("[::1]:9465", "::1", 9465),
        ("localhost:0", "localhost", 0),
        ("0.0.0.0:80", "0.0.0.0", 80),
        ("", None, None),
    ],
)
def test_listen_addresses(listen: str, host: str | None, port: int | None) -> None:
    settings = HttpSettings(listen=listen)
    assert (settings.host, settings.port) == (host, port)


@pytest.mark.parametrize(
    "listen", [":9465", "9465", "::1:9465", "[127.0.0.1]:1", "localhost:65536", "x:1", "localhost:²"]
)
def test_what_is_no_listen_address(listen: str) -> None:
    with pytest.raises(ValueError, match="must be an address and a port"):
        HttpSettings(listen=listen)
