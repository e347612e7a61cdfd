"""Kinds of settings that name machines, ports, certificates and mail addresses.

What passes here goes into protocol lines, so nothing that could end a line or
split an argument gets through (RFC 5321 s.4.1.2, RFC 1939 s.3).
"""

from __future__ import annotations

import functools
import ipaddress
import json
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from mailferry.config.kinds import EnvText, Kind, list_of, plain_text
from mailferry.message.address import is_sane_address

FALLBACK_PORTS: Mapping[str, int] = MappingProxyType(
    {"lmtp": 24, "pop3": 110, "pop3s": 995, "smtp": 25, "smtps": 465, "submission": 587, "submissions": 465}
)
"""For machines without /etc/services, such as slim containers."""

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.ASCII | re.IGNORECASE)
_SERVICE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
NAME_PATTERN = rf"^{_NAME.pattern}$"


def parse_host(value: object) -> str:
    """Return a host name (international ones as A-labels) or an IP address."""
    text = plain_text(value, "a host name")
    if "://" in text or "/" in text:
        raise ValueError("must be a host name or an IP address, not a URL")
    if text.startswith("[") or is_ip_address(text):
        return _bare_ip_address(text)
    if ":" in text:
        raise ValueError('must be a host name or an IP address; the port has a key of its own, "port"')
    return _host_name(text)


def _bare_ip_address(text: str) -> str:
    if text.startswith("["):
        raise ValueError('must be an IPv6 address without brackets, such as "2001:db8::1"')
    return str(ipaddress.ip_address(text))


def _host_name(text: str) -> str:
    try:
        ascii_name = text if text.isascii() else text.encode("idna").decode("ascii")
    except UnicodeError:
        ascii_name = ""
    if len(ascii_name) > 253 or not _HOST_NAME.fullmatch(ascii_name):
        raise ValueError('must be a host name such as "pop.example.net", or an IP address')
    return ascii_name


def is_ip_address(text: str) -> bool:
    """Tell whether the text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Tell whether traffic to the host cannot leave this machine (RFC 6761 s.6.3)."""
    if is_ip_address(host):
        return ipaddress.ip_address(host).is_loopback
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


@functools.lru_cache(maxsize=64)
def service_port(name: str) -> int | None:
    """Return the TCP port of a service name, or None when nobody knows it."""
    try:
        return socket.getservbyname(name, "tcp")
    except OSError:
        return FALLBACK_PORTS.get(name)


_PORT_HELP = 'must be a number from 1 to 65535 or a service name such as "pop3s" or "submission"'


def _port(value: object) -> int | str:
    if isinstance(value, EnvText) and re.fullmatch(r"[0-9]{1,9}", value, re.ASCII):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    if not isinstance(value, str):
        raise ValueError(_PORT_HELP)  # noqa: TRY004 - pydantic collects ValueError only
    if value.isdecimal():
        raise ValueError("must be a number without quotes, from 1 to 65535, or a service name")
    if not _SERVICE.fullmatch(value) or service_port(str(value)) is None:
        raise ValueError(f"{_PORT_HELP}; this machine knows no service of that name")
    return str(value)


def resolve_port(port: int | str) -> int:
    """Return the number of a checked port.

    Raises:
        ValueError: the machine no longer knows the service name.
    """
    number = port if isinstance(port, int) else service_port(port)
    if number is None:
        raise ValueError(_PORT_HELP)
    return number


def _ip_address(value: object) -> str:
    text = plain_text(value, "an IP address")
    if not is_ip_address(text):
        raise ValueError('must be an IP address of this machine, such as "192.0.2.7" or "2001:db8::7"')
    return str(ipaddress.ip_address(text))


def _fingerprint(value: object) -> str:
    digits = plain_text(value, "a fingerprint").replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits, re.ASCII):
        raise ValueError(
            "must be the SHA-256 of the certificate: 64 hexadecimal digits, with or without colons "
            "(openssl x509 -noout -fingerprint -sha256)"
        )
    return digits


def parse_address(value: object) -> str:
    """Return a mailbox `local@domain` without angle brackets (RFC 5321 s.4.1.2)."""
    help_text = 'must be one mail address such as "alice@example.org"'
    if not isinstance(value, str):
        raise ValueError(help_text)  # noqa: TRY004 - pydantic collects ValueError only
    local, at, domain = value.rpartition("@")
    if not (local and at and domain):
        raise ValueError(help_text)
    if not value.isprintable() or any(character in value for character in " <>,;"):
        raise ValueError(f"{help_text}, without spaces, brackets, line breaks or a second address")
    # RFC 5321 s.4.5.3.1: 64 octets before the @, 255 after it.
    if len(local.encode()) > 64 or len(domain.encode()) > 255:
        raise ValueError("must not have more than 64 octets before the @ or 255 after it")
    if not domain.startswith("["):
        _domain(domain, help_text)
    if not is_sane_address(value):  # an open quote, a source route: no next hop would take it
        raise ValueError(f"{help_text}; quotes, backslashes and colons only within a quoted local part")
    return str(value)


def _domain(domain: str, help_text: str) -> None:
    try:
        _host_name(domain)
    except ValueError:
        raise ValueError(f"{help_text}; what follows the @ is no domain") from None


def _sender(value: object) -> str:
    if isinstance(value, str) and value in {"original", "null"}:
        return str(value)
    try:
        return parse_address(value)
    except ValueError:
        raise ValueError('must be "original", "null" or a mail address such as "relay@example.org"') from None


def _recipients(value: object) -> tuple[str, ...]:
    if isinstance(value, str) and value == "original":
        return ()
    addresses: tuple[str, ...] = _addresses.parse(value)
    if not addresses:
        raise ValueError(
            'must name at least one mail address, or be "original" for those that a message came with'
        )
    return addresses


def _network(value: object) -> str:
    text = plain_text(value, "a network")
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError(
            'must be an IP address or a network such as "192.0.2.0/24" or "2001:db8::/32"'
        ) from None


def _domain_pattern(value: object) -> str:
    text = plain_text(value, "a domain")
    try:
        domain = _host_name(text.removeprefix(".")).lower()
    except ValueError:
        raise ValueError('must be a domain "example.org", or ".example.org" for its subdomains') from None
    return f".{domain}" if text.startswith(".") else domain


def _host_and_port(value: object) -> str:
    text = plain_text(value, "host:port")
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    valid = colon and port.isdecimal() and port.isascii() and 1 <= int(port) <= 65535
    if not valid or (bare != host and not is_ip_address(bare)) or (":" in bare and bare == host):
        raise ValueError('must be a host and a port such as "mx.example.org:25" or "[2001:db8::25]:25"')
    try:
        return f"{host if bare != host else parse_host(host)}:{port}"
    except ValueError as error:
        raise ValueError(f'must be a host and a port such as "mx.example.org:25"; the host {error}') from None


_UNIX = "unix:"
_LISTEN_HELP = 'must be an address and a port such as "127.0.0.1:9465" or "[::1]:9465", or "" for off'


def parse_listen(value: object) -> str:
    """Return `address:port` of this machine, or "" for off."""
    if not isinstance(value, str):
        raise ValueError(_LISTEN_HELP)  # noqa: TRY004 - pydantic collects ValueError only
    if not value:
        return ""
    host, _, port = value.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    bracketed = bare != host
    valid_host = (is_ip_address(bare) and bracketed == (":" in bare)) or host == "localhost"
    if not valid_host or not port.isdecimal() or not port.isascii() or len(port) > 5 or int(port) > 65535:
        raise ValueError(_LISTEN_HELP)
    return str(value)


def split_listen(listen: str) -> tuple[str, int] | None:
    """Return address without brackets and port; None for a socket, or when it is off."""
    if not listen or listen.startswith(_UNIX):
        return None
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


_HTTP_HELP = (
    'must be an address and a port such as "127.0.0.1:9465" or "[::1]:9465", '
    'a socket such as "unix:/run/mailferry/http.sock", or "" for off'
)


def parse_http_listen(value: object) -> str:
    """Return `address:port` of this machine, `unix:` with an absolute path, or "" for off."""
    if isinstance(value, str) and value.startswith(_UNIX):
        if (
            not value.isprintable()
            or not Path(value.removeprefix(_UNIX)).is_absolute()
            or value.endswith("/")
        ):
            raise ValueError('must be "unix:" and the absolute path of a socket')
        if len(os.fsencode(value.removeprefix(_UNIX))) > LONGEST_SOCKET_OCTETS:
            raise ValueError(f"must not name a socket with more than {LONGEST_SOCKET_OCTETS} octets")
        return str(value)
    try:
        return parse_listen(value)
    except ValueError:
        raise ValueError(_HTTP_HELP) from None


LONGEST_SOCKET_OCTETS = 107
"""sun_path of unix(7) has 108, and a zero at the end."""


def unix_path(listen: str) -> Path | None:
    """Return the path of a socket; None for an address, or for off."""
    return Path(listen.removeprefix(_UNIX)) if listen.startswith(_UNIX) else None


def _http_host(value: object) -> str:
    text = plain_text(value, "a host name")
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if is_ip_address(bare):
        return str(ipaddress.ip_address(bare))
    try:
        return _host_name(text).lower().rstrip(".")
    except ValueError:
        raise ValueError('must be a name such as "mail.example.org", without a port') from None


def _etrn_node(value: object) -> str:
    # RFC 1985 s.5.2: a domain, "@" with a domain for its subdomains too, "#" with a queue's name.
    help_text = 'must be a domain "example.org", "@example.org" for its subdomains too, or "#queue"'
    text = plain_text(value, "an ETRN node")
    if text.startswith("#"):
        if re.fullmatch(r"#[!-~]{1,200}", text, re.ASCII):
            return text
        raise ValueError(help_text)
    try:
        domain = _host_name(text.removeprefix("@"))
    except ValueError:
        raise ValueError(help_text) from None
    return f"@{domain}" if text.startswith("@") else domain


def parse_name(value: object) -> str:
    """Return the name of a maildrop, destination or ETRN entry."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return str(value)
    raise ValueError(
        "must be 1 to 64 of a-z, 0-9, dot, underscore and hyphen, and start with a letter or a digit"
    )


def _ehlo_name(value: object) -> str:
    # RFC 5321 s.4.1.3: an address literal where there is no name.
    text = plain_text(value, "a host name")
    if text.startswith("[") and text.endswith("]") and is_ip_address(text[1:-1].removeprefix("IPv6:")):
        return text
    return _host_name(text)


def _ca_file(value: object) -> Path:
    path = Path(plain_text(value, "a path"))
    try:
        with path.open("rb") as file:
            head = file.read(_CA_FILE_LIMIT)
    except OSError as error:
        raise ValueError(f"must be a readable file of CA certificates (PEM): {error.strerror}") from None
    if b"-----BEGIN" not in head:
        raise ValueError("must hold CA certificates in PEM form (-----BEGIN CERTIFICATE-----)")
    return path


_CA_FILE_LIMIT = 4 << 20

_string = {"type": "string", "minLength": 1}
_string_or_number = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"}]}

Host = Annotated[str, Kind("host name or IP address", parse_host, _string)]
Port = Annotated[int | str, Kind("port number or service name", _port, _string_or_number)]
IpAddress = Annotated[str, Kind("IP address", _ip_address, _string)]
Fingerprint = Annotated[
    str,
    Kind(
        "SHA-256, hexadecimal",
        _fingerprint,
        {"type": "string", "pattern": "^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$"},
    ),
]
CaFile = Annotated[Path, Kind("path", _ca_file, _string, lambda v: json.dumps(str(v)), is_path=True)]
Sender = Annotated[
    str,
    Kind('`"original"`, `"null"` or a mail address', _sender, _string),
]
_addresses = list_of(parse_address, "list of mail addresses", _string)
Recipients = Annotated[
    tuple[str, ...],
    Kind(
        'list of mail addresses or `"original"`',
        _recipients,
        {
            "anyOf": [
                {"enum": ["original"]},
                {"type": "array", "items": _string, "uniqueItems": True, "minItems": 1},
            ]
        },
        lambda value: json.dumps(list(value)),
    ),
]
"""Empty for `"original"`: those that the message came with."""
Networks = Annotated[tuple[str, ...], list_of(_network, "list of networks", _string)]
Domains = Annotated[tuple[str, ...], list_of(_domain_pattern, "list of domains", _string)]
HostAndPort = Annotated[str, Kind("`host:port`", _host_and_port, _string)]
ListenAddress = Annotated[str, Kind('`"address:port"` or `""`', parse_listen, {"type": "string"})]
HttpListen = Annotated[
    str, Kind('`"address:port"`, `"unix:/path"` or `""`', parse_http_listen, {"type": "string"})
]
HttpHosts = Annotated[tuple[str, ...], list_of(_http_host, "list of host names", _string)]
Addresses = Annotated[tuple[str, ...], _addresses]
MailAddress = Annotated[str, Kind("mail address", parse_address, _string)]
EtrnNodes = Annotated[tuple[str, ...], list_of(_etrn_node, "list of ETRN nodes", _string)]
EhloName = Annotated[str, Kind("host name", _ehlo_name, _string)]
TableName = Annotated[str, Kind("name", parse_name, {"type": "string", "pattern": NAME_PATTERN})]

_names = list_of(parse_name, "list of names", {"type": "string", "pattern": NAME_PATTERN})
Names = Annotated[tuple[str, ...], _names]


def parse_names(value: object) -> tuple[str, ...]:
    """Return the names in a list, or in text from the environment."""
    names: tuple[str, ...] = _names.parse(value)
    return names
