"""Which certificate a server showed that was not accepted.

The handshake that refuses a certificate does not tell it (neither Python nor OpenSSL
keeps it), so a second connection is made for it. There nothing is verified and nothing
is sent: the certificate is compared with a fingerprint that none has, which ends the
link before its first line under TLS.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace

from mailferry.errors import MailferryError
from mailferry.net.certificates import TlsFacts, WrongCertificateError
from mailferry.net.endpoint import Endpoint

_NO_FINGERPRINT = "of no certificate"


async def refused_tls(
    error: MailferryError, endpoint: Endpoint, look: Callable[[Endpoint], Awaitable[None]]
) -> TlsFacts | None:
    """Return what is known of the refused handshake; None when the certificate was not the reason.

    Args:
        error: why there is no session.
        endpoint: where it should have led.
        look: opens a session without a login at an endpoint.
    """
    if isinstance(error, WrongCertificateError):
        return error.facts
    if not isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return None
    try:
        await look(replace(endpoint, fingerprint=_NO_FINGERPRINT))
    except WrongCertificateError as shown:
        return shown.facts
    except MailferryError:
        return None  # what is wanted is an ornament of an error that is told in any case
    return None
