"""Every verb of POP3 and SMTP stands in a transcript, with a yes and with a no of the server."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
SASL = (
    "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS",
    "XOAUTH2", "OAUTHBEARER", "EXTERNAL",
)  # fmt: skip
AUTH = tuple(f"AUTH {mechanism}" for mechanism in SASL)
POP3 = (
    "USER", "PASS", "APOP", "RPOP", "STLS", "CAPA", "STAT", "LIST", "LIST n", "UIDL", "UIDL n", "TOP", "RETR", "DELE",
    "RSET", "NOOP", "LANG", "UTF8", "QUIT", *AUTH,
)  # fmt: skip
SMTP = (
    "EHLO", "HELO", "LHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "BDAT", ".", "RSET", "NOOP", "VRFY", "EXPN", "HELP",
    "ETRN", "ATRN", "QUIT", *AUTH,
)  # fmt: skip
YES = {"pop3": re.compile(r"\+OK", re.IGNORECASE), "smtp": re.compile(r"[23]\d\d")}
NO = {"pop3": re.compile(r"-ERR", re.IGNORECASE), "smtp": re.compile(r"[45]\d\d")}
CHALLENGE = {"pop3": re.compile(r"\+( |$)"), "smtp": re.compile(r"334")}


def verb_of(line: str) -> str:
    words = line.upper().split()
    if len(words) > 1 and words[0] == "AUTH":
        return f"AUTH {words[1]}"
    if len(words) == 2 and words[0] in {"LIST", "UIDL"}:
        return f"{words[0]} n"
    return words[0] if words else ""


def answers_in(kind: str, text: str, verbs: frozenset[str]) -> set[tuple[str, str]]:
    """Return which verbs were answered, and how: replies come in the order of what was sent."""
    found: set[tuple[str, str]] = set()
    owed: list[str] = []
    for line in text.splitlines():
        mark, said = line[:3], line[3:]
        if mark == "C: " and verb_of(said) in verbs:
            owed.append(verb_of(said))
        elif mark == "S: " and owed and not CHALLENGE[kind].match(said) and said[3:4] != "-":
            for answer, words in (("yes", YES[kind]), ("no", NO[kind])):
                if words.match(said):
                    found.add((owed[0], answer))
                    del owed[:1]
                    break
    return found


@pytest.mark.parametrize(("kind", "verbs"), [("pop3", POP3), ("smtp", SMTP)])
def test_every_verb_has_a_transcript_with_a_yes_and_a_no(kind: str, verbs: tuple[str, ...]) -> None:
    known = frozenset(verbs)
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((FOLDER / kind).glob("*.txt")):
        for verb, answer in answers_in(kind, path.read_text(encoding="utf-8"), known):
            found[verb].add(answer)
    missing = {verb: sorted({"yes", "no"} - found[verb]) for verb in verbs if found[verb] != {"yes", "no"}}
    assert missing == {}
