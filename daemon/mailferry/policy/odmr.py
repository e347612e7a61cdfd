"""What the answer to ATRN means, and which domains to ask for together (RFC 2645 s.5.2.1, s.7).

The words are those of ETRN (`policy.etrn`), so that a node's state reads the same whichever
way its mail comes. What differs is that 250 is no promise: the mail follows at once, over
this very connection, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mailferry.policy.etrn import EtrnAnswer, EtrnResult, missing_first
from mailferry.protocol.smtp_commands import COMMAND_LINE_OCTETS
from mailferry.protocol.smtp_replies import SmtpReply

_NOT_NOW = (
    "the server refuses for now; if that lasts, the login may not have access to every domain "
    "(RFC 2645 has one code for both), or the server wants longer pauses: ask its operator"
)
_NOT_OURS = "the server has no mail for this domain, or not for this login: ask its operator"
_UNKNOWN_COMMAND = (
    "the server has no ATRN, or has switched it off: check host and port (ODMR has 366), or ask its operator"
)
_UNKNOWN_FORM = "the server does not understand this domain: check its spelling"

# RFC 2645 s.7, and RFC 5321 s.4.2.2 where the code says more than its first digit.
_BY_CODE = {
    250: EtrnAnswer(EtrnResult.STARTED),
    421: EtrnAnswer(EtrnResult.UNAVAILABLE, ends_session=True),
    450: EtrnAnswer(EtrnResult.UNABLE, advice=_NOT_NOW),
    453: EtrnAnswer(EtrnResult.NOTHING_WAITING),
    500: EtrnAnswer(EtrnResult.NOT_OFFERED, advice=_UNKNOWN_COMMAND),
    501: EtrnAnswer(EtrnResult.REFUSED, advice=_UNKNOWN_FORM),
    502: EtrnAnswer(EtrnResult.NOT_OFFERED, advice=_UNKNOWN_COMMAND),
    503: EtrnAnswer(
        EtrnResult.PROTOCOL_ERROR,
        advice="the server calls it the wrong moment: please report it, with a trace",
    ),
    504: EtrnAnswer(EtrnResult.REFUSED, advice=_UNKNOWN_FORM),
}
_BY_FIRST_DIGIT = {
    4: EtrnAnswer(EtrnResult.UNABLE),
    5: EtrnAnswer(EtrnResult.REFUSED, advice=_NOT_OURS),
}
_ABOUT_DOMAINS = frozenset({EtrnResult.REFUSED, EtrnResult.UNABLE})
# 451 is trouble of the server's own (RFC 2645 s.7), the others are about TLS and the login (RFC 4954 s.6).
_ABOUT_THE_SESSION = frozenset({451, 454, 530, 534, 535, 538})


def judge_atrn(reply: SmtpReply, *, protected: bool, logged_in: bool) -> EtrnAnswer:
    """Say what a reply to ATRN means.

    Args:
        reply: the server's.
        protected: whether TLS was in force.
        logged_in: whether AUTH had succeeded.
    """
    missing = missing_first(reply, protected=protected, logged_in=logged_in)
    if missing is not None:
        return missing
    answer = _BY_CODE.get(reply.code) or _BY_FIRST_DIGIT.get(reply.code // 100)
    return answer or EtrnAnswer(EtrnResult.PROTOCOL_ERROR)


def one_by_one(reply: SmtpReply, answer: EtrnAnswer) -> bool:
    """Tell whether a refusal of several domains may be about one of them only.

    RFC 2645 s.5.2.1: a login without access to one of the domains gets 450 and no mail for
    any. So each is asked for by itself then.
    """
    return answer.result in _ABOUT_DOMAINS and reply.code not in _ABOUT_THE_SESSION


def batches(domains: Sequence[str], most: int) -> Iterator[tuple[str, ...]]:
    """Yield the domains in groups for one ATRN each, in their order.

    At most so many in one, and no more than a command line holds (RFC 5321 s.4.5.3.1.4);
    a domain that is too long by itself is a group, and the command refuses to be written.
    """
    group: list[str] = []
    room = 0
    for domain in domains:
        octets = len(domain.encode()) + 1
        if group and (len(group) == most or octets > room):
            yield tuple(group)
            group = []
        if not group:
            room = COMMAND_LINE_OCTETS - len("ATRN \r\n") + 1  # the first domain has no comma before it
        group.append(domain)
        room -= octets
    if group:
        yield tuple(group)
