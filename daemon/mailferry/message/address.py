"""What counts as a mail address when it stands in a trace field.

The test is meant to keep injection and nonsense out, not to be RFC 5321 s.4.1.2
to the letter: doubled and trailing dots in local parts are in daily use.
"""

from __future__ import annotations

import re

PATH_LIMIT_OCTETS = 254
"""RFC 5321 s.4.5.3.1.3: 256 with the angle brackets."""

_ADDRESS = re.compile(
    r"""(?: [^\s<>()\[\]\\,;:@"]+ | "(?:[^"\\]|\\.)*" )   # dot-string, or quoted string
        @ (?: [\w.-]+ | \[[0-9A-Za-z.:-]+\] )             # domain, or address literal""",
    re.VERBOSE,
)


def is_sane_address(text: str) -> bool:
    """Tell whether `text` is one mail address without brackets.

    Printable characters only, so neither line ends nor bidi overrides pass;
    UTF-8 addresses (RFC 6531) do. At most 254 octets.
    """
    if len(text) > PATH_LIMIT_OCTETS or not text.isprintable():
        return False
    return len(text.encode()) <= PATH_LIMIT_OCTETS and _ADDRESS.fullmatch(text) is not None
