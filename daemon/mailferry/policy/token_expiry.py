"""When an access token ends, where it tells.

OAuth 2.0 leaves a token's form to those who issue it (RFC 6749 s.1.4). Many are JSON Web
Tokens, which may name their end (`exp`, RFC 7519 s.4.1.4); nothing can be known of the
others. The signature is the server's business: here nobody is let in.
"""

from __future__ import annotations

import binascii
import json
from base64 import urlsafe_b64decode

_LATEST = 253_402_300_800.0
"""The year 10000: a time beyond is none."""
_MOST_CHARACTERS = 65_536


def token_expires_at(token: str) -> float | None:
    """Return seconds since the epoch, None when the token does not say."""
    parts = token.split(".", 3)
    if len(parts) != 3 or len(token) > _MOST_CHARACTERS:
        return None
    try:
        claims = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):  # not JSON: three parts by chance
        return None
    end = claims.get("exp") if isinstance(claims, dict) else None
    if isinstance(end, bool) or not isinstance(end, int | float) or not 0 < end < _LATEST:
        return None
    return float(end)
