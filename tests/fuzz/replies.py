"""What replies are taken to mean: SMTP transactions, POP3 logins."""

from __future__ import annotations

from dataclasses import replace

from fuzz.harness import SEPARATOR, Harness
from mailferry.errors import HopAuthenticationError, RemoteProtocolError
from mailferry.model import Deferred, Delivered, PermanentFailure, Scope
from mailferry.policy.classify import HopStage, classify_transaction, hop_failure
from mailferry.policy.login import LoginRefusal, classify_login_refusal
from mailferry.protocol.smtp_features import parse_features
from mailferry.protocol.smtp_replies import ReplyParser, SmtpLimits, SmtpReply
from mailferry.protocol.smtp_transaction import Transaction, TransactionFinished

_LIMITS = SmtpLimits(reply_line_octets=200, reply_lines=8)
_STAGES: tuple[HopStage, ...] = ("greeting", "ehlo", "starttls", "auth")
_ROUTE_CODES = frozenset({421, 432, 454, 521, 530, 534, 535, 538})
_LOGIN_CODES = {
    "IN-USE": LoginRefusal.BUSY,
    "LOGIN-DELAY": LoginRefusal.DELAYED,
    "AUTH": LoginRefusal.CREDENTIALS,
    "SYS/TEMP": LoginRefusal.UNAVAILABLE,
    "SYS/PERM": LoginRefusal.FAULT,
}


def check(data: bytes) -> None:
    flags, _, rest = data.partition(SEPARATOR)
    replies = _replies(rest)
    for reply in replies:
        _check_reply(reply)
    _check_transaction(flags, replies)
    _check_login(rest)


def _replies(octets: bytes) -> list[SmtpReply]:
    parser, replies = ReplyParser(_LIMITS), []
    try:
        for reply in parser.feed(octets):
            replies.append(reply)  # noqa: PERF402  (those before an error count)
    except RemoteProtocolError as error:
        assert len(error.line) <= 200
    else:
        assert parser.receiving_octets <= len(octets)
    return replies


def _check_reply(reply: SmtpReply) -> None:
    assert reply.positive + reply.intermediate + reply.transient + reply.permanent == 1
    assert str(reply).isprintable()
    features = parse_features(reply)
    assert features.size_limit is None or features.size_limit > 0
    assert all(keyword == keyword.upper() for keyword in features.keywords)
    for stage in _STAGES:
        error = hop_failure(stage, reply)
        assert str(error).isprintable()
        assert stage == "auth" or not isinstance(error, HopAuthenticationError)


def _check_transaction(flags: bytes, replies: list[SmtpReply]) -> None:
    """Deferred unless proven: whatever a server's replies are, these hold."""
    bits = flags[0] if flags else 0
    recipients = tuple(f"r{number}@y.org" for number in range(1 + (bits & 3)))
    words: list[SmtpReply | None] = [*replies, *(None,) * 9]
    finished = (_by_recipient if bits & 16 else _by_all)(bits, recipients, words)
    report = classify_transaction(finished)
    outcome = report.outcome
    assert outcome == classify_transaction(finished).outcome
    assert not set(report.accepted_recipients) & set(report.refused_recipients)
    said = [
        reply for reply in (finished.sender_reply, *finished.recipient_replies, finished.data_reply) if reply
    ]
    finals = [reply for reply in finished.final_replies or () if reply]
    if isinstance(outcome, Delivered):
        assert report.accepted_recipients == recipients
        assert finished.content_sent
        assert all(reply.positive for reply in (*said, *finals))
        assert len(said) == 2 + len(recipients)
        return
    assert outcome.reason.isprintable()
    if isinstance(outcome, PermanentFailure):
        assert outcome.scope is not Scope.NEXT_HOP
        assert any(reply.permanent and reply.code not in _ROUTE_CODES for reply in (*said, *finals))
    else:
        assert isinstance(outcome, Deferred)
        assert outcome.in_doubt == (finished.in_doubt and not finished.data_reply)
    if said and not said[0].positive and said[0].code in _ROUTE_CODES and not finished.in_doubt:
        assert isinstance(outcome, Deferred)
        assert outcome.scope is Scope.NEXT_HOP


def _by_all(bits: int, recipients: tuple[str, ...], words: list[SmtpReply | None]) -> TransactionFinished:
    """SMTP: one reply to the content."""
    data, sent = words[1 + len(recipients)], bool(bits & 4)
    return TransactionFinished(
        Transaction("t", "s@x.org", recipients, (b"x\r\n",), 3),
        words[0],
        tuple(words[1 : 1 + len(recipients)]),
        data,
        content_sent=sent,
        in_doubt=sent and data is None and bool(bits & 8),
    )


def _by_recipient(
    bits: int, recipients: tuple[str, ...], words: list[SmtpReply | None]
) -> TransactionFinished:
    """LMTP: one reply to the content for each recipient that RCPT accepted."""
    whole = _by_all(bits, recipients, words)
    if not whole.content_sent:
        return replace(whole, final_replies=(None,) * len(recipients))
    pairs = list(zip(whole.recipient_replies, words[1 + len(recipients) :], strict=False))
    finals = tuple(final if rcpt and rcpt.positive else None for rcpt, final in pairs)
    missing = any(final is None and rcpt and rcpt.positive for rcpt, final in pairs)
    last = None if missing else next((final for final in reversed(finals) if final), None)
    return replace(whole, data_reply=last, in_doubt=missing, final_replies=finals)


def _check_login(octets: bytes) -> None:
    text = octets.decode("utf-8", "replace")
    code, _, words = text.partition(" ")
    for told in (False, True):
        assert isinstance(classify_login_refusal(None, text, auth_resp_code=told), LoginRefusal)
        refusal = classify_login_refusal(code, words, auth_resp_code=told)
        assert refusal is _LOGIN_CODES.get(code, refusal)
        if told and code not in _LOGIN_CODES and "AUTH" not in code:
            assert refusal is not LoginRefusal.CREDENTIALS


_HARNESS = Harness(
    name="replies",
    check=check,
    tokens=(
        b"250 ok\r\n", b"250-", b"354 go\r\n", b"421 bye\r\n", b"450 ", b"451 4.7.0 ", b"452 4.2.2 ", b"454 ", b"530 5.7.0 ", b"535 5.7.8 ",
        b"550 5.1.1 ", b"550 5.7.1 ", b"552 5.2.2 ", b"552 5.3.4 ", b"553 5.1.8 ", b"554 5.4.6 ", b"554 5.6.0 ", b"555 5.5.4 ", b"501 ", b"503 ",
        b"5.7.30 ", b"4.7.12 ", b"2.0.0 ", b"\r\n", b"SIZE 0", b"AUTH PLAIN", b"IN-USE ", b"LOGIN-DELAY ", b"SYS/TEMP ", b"SYS/", b"AUTH ", b"AUTH/X ",
        b"maildrop already locked", b"too many failed logins", b"too many connections", b"minimum login interval", SEPARATOR, b"/", b"\xff", b"\x85",
    ),
    max_octets=800,
    modules=("policy/classify.py", "policy/login.py", "protocol/smtp_replies.py", "protocol/smtp_features.py"),
)  # fmt: skip

HARNESSES = (_HARNESS,)
