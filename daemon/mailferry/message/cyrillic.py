# ruff: noqa: RUF001  (Cyrillic letters are the subject here)
"""Which charset makes unlabelled octets look most like Russian or a neighbour of it.

Russian mail comes in windows-1251 and KOI8-R about as often without a label as
with one, and the two use the same octets for different letters. The guess goes by
how common the letters are, and by where capitals stand.
"""

from __future__ import annotations

import math
import re

# With a handicap for the two that mail hardly uses.
_CYRILLIC = {"cp1251": 0.0, "koi8_r": 0.0, "iso8859_5": -0.3, "cp866": -0.3}
_GUESS_OCTETS = 400

# How often a letter stands in a thousand of running Russian text, roughly, and
# the letters of the neighbours with a guess; commonest first.
_PER_MILLE = dict(
    zip("оеаинтсрвлкмдпуяыьгзбчйхіжшюцщэїєфёўґъ", (
        110, 85, 80, 74, 67, 63, 55, 47, 45, 44, 35, 32, 30, 28, 26, 20, 19, 17, 17, 16, 16, 14, 12, 10, 10, 9, 7, 6, 5,
        4, 3, 2, 2, 2, 2, 2, 1, 1,
    ), strict=True),
)  # fmt: skip
_LOWER = {letter: math.log(share / 1000) for letter, share in _PER_MILLE.items()}
_UPPER = {letter.upper(): weight for letter, weight in _LOWER.items()}
_PUNCTUATION = frozenset("«»№–—…“”„’·•\xa0§")
_PUNCTUATION_WEIGHT = -6.0
_STRANGE_WEIGHT = -9.0
_CAPITAL_AFTER_SMALL = -3.0
_CAPITAL_AFTER_CAPITAL = -0.4
_NEVER_FIRST = -4.0
_PAIR = 1.0
_LEAST_PLAUSIBLE = -6.0
# Pairs that running Russian is full of; they settle words in capitals, which in
# the other charset are small letters, only the wrong ones.
_PAIR_LIST = (
    "ст но то на ен ов ни ра во ко ро го по ре ер ет не та ли ал пр ла ль ос от ол ом ор ка те ва ат де ть ит ие ан"
    " ый ти он до ин за ил ел ри ле да ог об ма ве че ак ск ми ме нн ия из ик им ам ар ас ес ей ся ви ши жа чт зд вы"
    " мы вс"
)
_PAIRS = frozenset(_PAIR_LIST.split())
_WORD = re.compile(r"[^\W\d_]+")


def guess_cyrillic(octets: bytes) -> str | None:
    """Return windows-1251, KOI8-R, ISO 8859-5 or CP866, as Python calls them, by letter statistics.

    None if the octets do not look like Cyrillic words in any of them. Looks at the
    first 400 octets.
    """
    octets = octets[:_GUESS_OCTETS]
    texts = {codec: octets.decode(codec, "replace") for codec in _CYRILLIC}
    scores = {codec: _score(texts[codec]) + handicap for codec, handicap in _CYRILLIC.items()}
    best = max(scores, key=scores.__getitem__)
    return best if scores[best] > _LEAST_PLAUSIBLE and _has_whole_words(texts[best]) else None


def _score(text: str) -> float:
    """Return the mean weight of the characters beyond ASCII; nearer to zero is likelier."""
    total = 0.0
    count = 0
    previous = " "
    for character in text:
        if character > "\x7f":
            total += _weigh(character, previous)
            total += _PAIR if (previous + character).lower() in _PAIRS else 0.0
            count += 1
        previous = character
    return total / count if count else _STRANGE_WEIGHT


def _weigh(character: str, previous: str) -> float:
    if character in _LOWER:
        no_start = character in "ьъы" and not previous.isalpha()
        return _LOWER[character] + (_NEVER_FIRST if no_start else 0.0)
    if character in _UPPER:
        # The charsets differ in where the capitals stand, so a wrong one shows
        # itself by words like "оПХБЕР".
        if previous in _LOWER:
            return _UPPER[character] + _CAPITAL_AFTER_SMALL
        return _UPPER[character] + (_CAPITAL_AFTER_CAPITAL if previous in _UPPER else 0.0)
    return _PUNCTUATION_WEIGHT if character in _PUNCTUATION else _STRANGE_WEIGHT


def _has_whole_words(text: str) -> bool:
    """Tell words in another script from letters with accents inside of Latin ones."""
    whole = mixed = 0
    for word in _WORD.findall(text):
        beyond_ascii = sum(1 for character in word if character > "\x7f")
        if beyond_ascii < len(word):
            mixed += beyond_ascii
        elif len(word) > 1:
            whole += beyond_ascii
    return whole > mixed
