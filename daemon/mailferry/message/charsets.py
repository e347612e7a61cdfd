"""From octets to text, whatever the sender called the charset, or if he did not.

Labels are believed when they can be; a text that cannot be what its label says is
taken for UTF-8, then for what the message says elsewhere, then for Cyrillic in the
charset that makes it look most like a language, then for windows-1252.

Only labels from Python's own table are looked up: the codec registry remembers
every name it was ever asked for, so a stranger must not choose them.
"""

from __future__ import annotations

import codecs
import re
from encodings.aliases import aliases

from mailferry.message.cyrillic import guess_cyrillic

_NOT_TEXT = frozenset(
    {"base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec"}
)
_SYSTEM_ONLY = frozenset({"mbcs", "oem"})
_CODECS = (
    (frozenset(aliases.values()) | {"koi8_u", "koi8_t", "cp874", "mac_cyrillic"}) - _NOT_TEXT - _SYSTEM_ONLY
)

# Labels met in mail that Python does not know, or knows as a smaller charset than
# the one that senders mean by it.
_WANTED = {
    "ascii": "ascii",
    "latin_1": "cp1252",
    "gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932", "tis_620": "cp874",
    "iso2022_jp": "iso2022_jp_ext", "iso2022_jp_1": "iso2022_jp_ext", "iso2022_jp_2": "iso2022_jp_2",
    "ks_c_5601_1987": "cp949", "x_gbk": "gb18030", "cn_gb": "gb18030", "gb_2312_80": "gb18030",
    "x_sjis": "cp932", "x_euc_jp": "euc_jp", "x_euc_kr": "cp949", "cn_big5": "big5", "x_x_big5": "big5",
    "koi8r": "koi8_r", "koi8u": "koi8_u", "koi8": "koi8_r", "x_koi8_r": "koi8_r", "koi": "koi8_r",
    "win1251": "cp1251", "win_1251": "cp1251", "x_cp1251": "cp1251", "cp_1251": "cp1251", "ansi_1251": "cp1251",
    "x_windows_1251": "cp1251", "windows1251": "cp1251", "cp_866": "cp866", "x_mac_cyrillic": "mac_cyrillic",
    "x_cp1250": "cp1250", "win_1250": "cp1250", "x_cp1252": "cp1252", "win_1252": "cp1252",
    "unicode_1_1_utf_7": "utf_7", "unicode_1_1_utf_8": "utf_8", "utf8mb4": "utf_8", "unicode": "utf_8",
    "iso_8859_8_i": "iso8859_8", "iso_8859_8_e": "iso8859_8", "iso_8859_6_i": "iso8859_6",
    "x_roman8": "hp_roman8", "iso8859_1_windows": "cp1252",
}  # fmt: skip

_LABEL_LIMIT = 40
_NOT_ALNUM = re.compile(r"[^a-z0-9]+")

_UTF8_BROKEN_SHARE = 0.2


def codec_for_label(label: bytes) -> str | None:
    """Return the name of Python's codec for a charset label, or None if it is unknown."""
    if len(label) > _LABEL_LIMIT:
        return None
    key = _NOT_ALNUM.sub("_", label.decode("latin-1").lower()).strip("_")
    codec = _WANTED.get(key) or aliases.get(key, key)
    codec = _WANTED.get(codec, codec)
    return codec if codec in _CODECS and _is_installed(codec) else None


def _is_installed(codec: str) -> bool:
    """Tell whether this Python has the codec: a small build may lack the East Asian ones."""
    try:
        codecs.lookup(codec)
    except LookupError:
        return False
    return True


def decode_text(octets: bytes, codec: str | None, elsewhere: str | None = None) -> str:
    """Decode octets for reading, never failing.

    Args:
        octets: cut by the caller to what is going to be shown.
        codec: what the text itself is labelled as, from `codec_for_label`.
        elsewhere: the charset that the rest of the message speaks for.
    """
    for candidate in (codec, "utf_8", elsewhere):
        text = _decode_strictly(octets, candidate)
        if text is not None:
            return text
    text = octets.decode("utf-8", "replace")
    if _is_broken_utf8(octets, text):
        return text
    if codec and codec not in {"utf_8", "ascii"}:
        return octets.decode(codec, "replace")
    return octets.decode(guess_cyrillic(octets) or "cp1252", "replace")


def _decode_strictly(octets: bytes, codec: str | None) -> str | None:
    if codec is None:
        return None
    try:
        return octets.decode(codec)
    except UnicodeError:
        return None


def _is_broken_utf8(octets: bytes, text: str) -> bool:
    """Tell whether `text` is UTF-8 with some damage, such as a character cut in two."""
    beyond_ascii = sum(1 for character in text if character > "\x7f")
    bad = text.count("\ufffd") - octets.count(b"\xef\xbf\xbd")
    return beyond_ascii > bad and bad <= max(1, beyond_ascii * _UTF8_BROKEN_SHARE)


def raw_charset(octets: bytes, declared: str | None) -> str | None:
    """Return the codec for unlabelled 8-bit octets, or None if nothing speaks for any.

    UTF-8 if it is, then `declared` (the codec of Content-Type) if it fits, then the
    Cyrillic guess.
    """
    for candidate in ("utf_8", declared):
        if _decode_strictly(octets, candidate) is not None:
            return candidate
    return guess_cyrillic(octets)
