"""What a refused POP3 login means (RFC 2449 s.8, RFC 3206).

The difference decides what happens next: a busy maildrop is tried again soon, a
refused password rarely and with an alert, a server in trouble by back-off. To take
trouble for a refused password would wake a person for nothing; the reverse would
hammer until the provider locks the account.
"""

from __future__ import annotations

import re
from enum import StrEnum


class LoginRefusal(StrEnum):
    """Why a login failed."""

    CREDENTIALS = "credentials"
    BUSY = "busy"
    DELAYED = "delayed"
    UNAVAILABLE = "unavailable"
    """Trouble that may pass by itself."""
    FAULT = "fault"
    """Trouble that a person has to mend, and not with another password."""


_BY_CODE = {
    "IN-USE": LoginRefusal.BUSY,
    "LOGIN-DELAY": LoginRefusal.DELAYED,
    "AUTH": LoginRefusal.CREDENTIALS,
    "SYS/PERM": LoginRefusal.FAULT,
    "SYS": LoginRefusal.UNAVAILABLE,  # TEMP, and whatever else may follow
}

# Words of servers without response codes. RFC 1939 s.7's own example is
# "maildrop already locked"; the delays are what large providers say.
_BUSY = re.compile(
    r"already (locked|open|in use)|mailbox (is )?(locked|in use|busy)|maildrop.*locked", re.IGNORECASE
)
_DELAYED = re.compile(
    r"login (limit|delay|too frequent)|minimum.*interval|too (many|frequent).*(login|connection)",
    re.IGNORECASE,
)
# "Too many failed logins" is no matter of pace, nor is "mailbox locked after failed logins" one of
# another session: it is the wrong password once more, and to come back soon would prolong the lock.
_BLAMES_LOGINS = re.compile(
    r"(fail|invalid|incorrect|wrong|bad|unsuccessful)\w*( [\w-]+){0,3} (login|logon|log-in|sign-?in|password|attempt|auth)"
    r"|(login|logon|authentication) failures|attempts( [\w-]+){0,2} fail",
    re.IGNORECASE,
)


def classify_login_refusal(response_code: str | None, text: str, *, auth_resp_code: bool) -> LoginRefusal:
    """Return why a login was refused.

    Args:
        response_code: upper-case without brackets, None when there was none.
        text: the rest of the status line.
        auth_resp_code: whether the server advertised AUTH-RESP-CODE; then a
            refusal without `[AUTH]` is not about credentials (RFC 3206 s.6).
    """
    code = response_code or ""
    while code:
        if code in _BY_CODE:
            return _BY_CODE[code]
        code, _, _ = code.rpartition("/")  # they are levels (RFC 2449 s.8): TEMP of SYS
    if not _BLAMES_LOGINS.search(text):
        if _BUSY.search(text):
            return LoginRefusal.BUSY
        if _DELAYED.search(text):
            return LoginRefusal.DELAYED
    return LoginRefusal.UNAVAILABLE if auth_resp_code else LoginRefusal.CREDENTIALS
