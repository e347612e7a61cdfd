"""Labels as senders write them, and text without a label."""

from __future__ import annotations

import encodings

import pytest

from mailferry.message import charsets
from mailferry.message.charsets import codec_for_label, decode_text, raw_charset
from mailferry.message.cyrillic import guess_cyrillic


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        (b"UTF-8", "utf_8"), (b"utf8", "utf_8"), (b"unicode-1-1-utf-7", "utf_7"),
        (b"Windows-1251", "cp1251"), (b"x-cp1251", "cp1251"), (b"win-1251", "cp1251"), (b"cp-1251", "cp1251"),
        (b"CP1251", "cp1251"), (b"KOI8-R", "koi8_r"), (b"koi8r", "koi8_r"), (b"koi8-u", "koi8_u"),
        (b"gb2312", "gb18030"), (b"GBK", "gb18030"), (b"ks_c_5601-1987", "cp949"), (b"Shift_JIS", "cp932"),
        (b"iso-8859-8-i", "iso8859_8"), (b"iso-8859-1", "cp1252"), (b"ISO_8859-5", "iso8859_5"),
        (b"us-ascii", "ascii"), (b"iso-2022-jp", "iso2022_jp_ext"), (b"ibm866", "cp866"),
        (b"hex", None), (b"base64", None), (b"rot13", None), (b"idna", None), (b"punycode", None),
        (b"unicode_escape", None), (b"undefined", None), (b"x-unknown", None), (b"unknown-8bit", None),
        (b"", None), (b"\xff\xfe", None), (b"utf-8" * 20, None), (b"../../etc/passwd", None),
    ],
)  # fmt: skip
def test_knows_the_labels_of_mail_and_no_codec_that_is_no_charset(label: bytes, codec: str | None) -> None:
    assert codec_for_label(label) == codec


def test_every_known_label_decodes_anything() -> None:
    for codec in charsets._CODECS | set(charsets._WANTED.values()):
        found = codec_for_label(codec.encode())
        assert isinstance(decode_text(bytes(range(256)), found), str)


def test_strangers_cannot_fill_the_registry_of_codecs() -> None:
    known = len(encodings._cache)  # type: ignore[attr-defined]  # the very thing that must not grow
    for number in range(50):
        assert codec_for_label(b"x-invented-%d" % number) is None
    assert len(encodings._cache) == known  # type: ignore[attr-defined]  # as above


SENTENCES = [
    "Счёт на оплату №15 за март",
    "Добрый день! Высылаем акт сверки",
    "ООО «Ромашка»: коммерческое предложение",
    "СРОЧНО! ОПЛАТИТЕ СЧЁТ ДО ПЯТНИЦЫ",
    "Re: да",
    "Иван Петров",
    "Анна Щукина",
    "Привет",
    "отчёт",
    "Запрошення на зустріч у Києві",
]


@pytest.mark.parametrize("text", SENTENCES)
@pytest.mark.parametrize("codec", ["cp1251", "koi8_r"])
def test_tells_windows_1251_from_koi8(text: str, codec: str) -> None:
    octets = text.encode(codec, "ignore")
    assert guess_cyrillic(octets) == codec


@pytest.mark.parametrize("text", SENTENCES[:4])
@pytest.mark.parametrize("codec", ["iso8859_5", "cp866"])
def test_knows_the_two_rare_ones_in_longer_text(text: str, codec: str) -> None:
    text = "Уважаемые коллеги, напоминаем об оплате. " + text
    assert guess_cyrillic(text.encode(codec, "ignore")) == codec


@pytest.mark.parametrize(
    "text", ["Café München", "Rendez-vous à Paris", "Übergröße", "ÉTÉ", "naïve", "El Niño, mañana"]
)
def test_does_not_take_accents_for_cyrillic(text: str) -> None:
    octets = text.encode("cp1252")
    assert guess_cyrillic(octets) is None
    assert decode_text(octets, None) == text


def test_guesses_nothing_from_nothing() -> None:
    assert guess_cyrillic(b"") is None
    assert guess_cyrillic(b"plain") is None


@pytest.mark.parametrize(
    ("octets", "codec", "elsewhere", "text"),
    [
        ("Привет".encode("koi8_r"), "koi8_r", None, "Привет"),
        # Believed as labelled, whatever the statistics say.
        ("Привет".encode("koi8_r"), "cp1251", None, "Привет".encode("koi8_r").decode("cp1251")),
        # Labelled UTF-8 and is not.
        ("Привет, мир".encode("cp1251"), "utf_8", None, "Привет, мир"),
        ("Привет, мир".encode("koi8_r"), "utf_8", None, "Привет, мир"),
        ("Привет, мир".encode("koi8_r"), "ascii", None, "Привет, мир"),
        # What the rest of the message says comes before the guess.
        ("größe".encode("cp1252"), "utf_8", "cp1250", "größe"),
        ("łódź".encode("cp1250"), None, "cp1250", "łódź"),
        ("łódź".encode(), None, "cp1250", "łódź"),
        # UTF-8 cut in the middle of a character is still UTF-8.
        ("Привет, мир".encode()[:-1], "utf_8", None, "Привет, ми\ufffd"),
        ("Привет".encode()[:-1], None, None, "Приве\ufffd"),
        # An octet that the right charset does not have spoils only itself.
        (b"\xcf\xf0\xe8\x98\xe2\xe5\xf2", "cp1251", None, "При\ufffdвет"),
        (b"\x80 100", None, None, "€ 100"),
    ],
)
def test_decodes_by_label_then_utf8_then_message_then_guess(
    octets: bytes, codec: str | None, elsewhere: str | None, text: str
) -> None:
    assert decode_text(octets, codec, elsewhere) == text


def test_names_a_charset_for_raw_octets() -> None:
    assert raw_charset("мир".encode(), "cp1251") == "utf_8"
    assert raw_charset("łódź".encode("cp1250"), "cp1250") == "cp1250"
    assert raw_charset("Привет".encode("koi8_r"), None) == "koi8_r"
    assert raw_charset(b"caf\xe9", None) is None
