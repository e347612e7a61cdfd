"""What every harness is, and how inputs are made for it where no fuzzer is at hand.

A harness takes any octets and raises for a finding: an `AssertionError` where an
invariant does not hold, whatever else where the program let an undocumented
exception out. It depends on nothing but its input, so a finding can be replayed.
"""

from __future__ import annotations

import ast
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
SEPARATOR = b"\x1e"
"""Divides an input into parts: a control character that no protocol here has a use for."""


@dataclass(frozen=True, slots=True)
class Harness:
    """One thing to be fuzzed.

    Attributes:
        check: tries one input; returns when there is nothing to find in it.
        tokens: words of the input's language, for mutations.
        max_octets: the longest input that is worth trying.
        modules: what it is aimed at, as paths below `mailferry/`; for the measure of coverage.
    """

    name: str
    check: Callable[[bytes], None]
    tokens: tuple[bytes, ...]
    max_octets: int
    modules: tuple[str, ...]

    def corpus(self) -> list[bytes]:
        """Return the inputs that are kept: one literal of Python a line."""
        lines = (CORPUS / f"{self.name}.txt").read_text("ascii").splitlines()
        return [ast.literal_eval(line) for line in lines if line and not line.startswith("#")]

    def generated(self, count: int, seed: int = 0) -> Iterator[bytes]:
        """Yield mutated inputs, the same ones each time."""
        dice = random.Random(f"{self.name} {seed}")
        corpus = self.corpus()
        for _ in range(count):
            data = dice.choice(corpus)
            for _ in range(dice.choice((1, 1, 2, 3, 5, 8))):
                data = _mutated(dice, data, self.tokens, corpus)
            yield data[: self.max_octets]


def _mutated(dice: random.Random, data: bytes, tokens: tuple[bytes, ...], corpus: list[bytes]) -> bytes:
    at = dice.randint(0, len(data))
    to = min(len(data), at + dice.choice((0, 1, 1, 2, 4, 16)))
    match dice.randrange(6):
        case 0:
            return data[:at] + dice.choice(tokens) + data[at:]
        case 1:
            return data[:at] + dice.choice(tokens) + data[to:]
        case 2:
            return data[:at] + data[to:]
        case 3:
            return data[:at] + dice.randbytes(dice.randint(1, 3)) + data[to:]
        case 4:
            return data[:to] + data[at:to] * dice.choice((1, 2, 30)) + data[to:]
        case _:
            other = dice.choice(corpus)
            return data[:at] + other[dice.randint(0, len(other)) :]


def dice_for(data: bytes) -> random.Random:
    """Return random numbers that depend on the input alone."""
    return random.Random(zlib.crc32(data))


def cut(dice: random.Random, data: bytes) -> list[bytes]:
    """Cut octets to pieces, as a network might."""
    edges = sorted({0, len(data), *(dice.randint(0, len(data)) for _ in range(dice.randint(0, 12)))})
    return [data[start:end] for start, end in pairwise(edges)]


def cut_bytewise(data: bytes) -> list[bytes]:
    """Cut octets as the slowest peer might."""
    return [data[at : at + 1] for at in range(len(data))]
