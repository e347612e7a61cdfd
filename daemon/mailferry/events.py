"""Everything that mailferry tells the world, one frozen class each.

Telemetry turns an event into a log line (named `name`, at `level`) and into
metrics. Names are `noun.verb_past` and stable: alerts are built on them. Fields
hold plain values; text that a peer sent is cleaned where it is printed. Levels:
info is an outcome, warning will be tried again, error needs a person, debug is
detail.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    """The root of all events."""

    name: ClassVar[str] = ""
    level: ClassVar[Level] = "info"
    alike: ClassVar[tuple[str, ...]] = ()
    """Fields by which two of a class are the same trouble: the log tells the first and counts the others."""


@dataclass(frozen=True, slots=True)
class DaemonStarted(Event):
    """Configuration is in force and the schedule runs."""

    name: ClassVar[str] = "daemon.started"
    version: str
    maildrops: int
    destinations: int


@dataclass(frozen=True, slots=True)
class DaemonStopping(Event):
    """A signal asked for the end; what is in flight is being finished."""

    name: ClassVar[str] = "daemon.stopping"
    signal: str


@dataclass(frozen=True, slots=True)
class DaemonStopped(Event):
    """All sessions are closed and all rows written."""

    name: ClassVar[str] = "daemon.stopped"
    clean: bool


@dataclass(frozen=True, slots=True)
class ConfigReloaded(Event):
    """A changed configuration was read and is in force; tables are named as in the file."""

    name: ClassVar[str] = "config.reloaded"
    added: str
    changed: str
    """Keys outside of named tables, too, such as `daemon.log_level`."""
    removed: str
    renewed: str
    """Tables that are the same, while a file they name (a password, a certificate) was written anew."""
    finishing: str
    """Maildrops whose last session under the old settings goes on."""
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class ConfigUnchanged(Event):
    """A reload found the configuration as it is in force."""

    name: ClassVar[str] = "config.unchanged"


@dataclass(frozen=True, slots=True)
class ConfigProblemFound(Event):
    """One thing that is wrong in a configuration that a reload refused, in the words of `mailferry check`."""

    name: ClassVar[str] = "config.problem_found"
    level: ClassVar[Level] = "error"
    problem: str


@dataclass(frozen=True, slots=True)
class ConfigReloadFailed(Event):
    """A reload was refused; everything goes on under the configuration in force."""

    name: ClassVar[str] = "config.reload_failed"
    level: ClassVar[Level] = "error"
    problems: int
    """The first of them stand in `config.problem_found`, all of them in `mailferry check`."""


@dataclass(frozen=True, slots=True)
class ConfigRestartNeeded(Event):
    """A reload found new values of keys that cannot be changed while the daemon runs; the old ones are in force."""

    name: ClassVar[str] = "config.restart_needed"
    level: ClassVar[Level] = "warning"
    keys: str


@dataclass(frozen=True, slots=True)
class ScheduleStuck(Event):
    """Nothing is started though it is due, so systemd's watchdog is not told that all is well; a fault of ours."""

    name: ClassVar[str] = "schedule.stuck"
    level: ClassVar[Level] = "error"
    reason: str


@dataclass(frozen=True, slots=True)
class PollStarted(Event):
    """A maildrop's turn has come and it got its place under the caps."""

    name: ClassVar[str] = "poll.started"
    level: ClassVar[Level] = "debug"
    maildrop: str
    poll_id: str


@dataclass(frozen=True, slots=True)
class PollFinished(Event):
    """One poll of one maildrop came to its end, well or not."""

    name: ClassVar[str] = "poll.finished"
    maildrop: str
    poll_id: str
    result: str
    """`ok`, or a word for what failed: see `PollResult`."""
    duration_seconds: float
    listed: int = 0
    relayed: int = 0
    deferred: int = 0
    rejected: int = 0
    skipped: int = 0
    deleted: int = 0
    waiting: int = 0
    """Messages on the server that still have a destination to reach."""
    maildrop_octets: int = 0
    oldest_waiting_at: float = 0.0
    """When the first of them was first tried that still waits; 0 when none that was tried does."""
    login_delay_seconds: float = 0.0
    """The pause that the server wants between logins (LOGIN-DELAY, RFC 2449 s.6.5)."""


@dataclass(frozen=True, slots=True)
class PollFailed(Event):
    """A poll ended early; the maildrop is tried again at `not_before`."""

    name: ClassVar[str] = "poll.failed"
    level: ClassVar[Level] = "warning"
    alike: ClassVar[tuple[str, ...]] = ("maildrop", "result", "error")
    maildrop: str
    poll_id: str
    result: str
    error: str
    failures: int
    not_before: float


@dataclass(frozen=True, slots=True)
class MaildropAuthRejected(Event):
    """The server refused user name or password: a person must act."""

    name: ClassVar[str] = "maildrop.auth_rejected"
    level: ClassVar[Level] = "error"
    alike: ClassVar[tuple[str, ...]] = ("maildrop", "error")
    maildrop: str
    error: str
    failures: int


@dataclass(frozen=True, slots=True)
class MaildropFaultReported(Event):
    """The server said `[SYS/PERM]`: its trouble lasts until a person mends it, there or here."""

    name: ClassVar[str] = "maildrop.fault_reported"
    level: ClassVar[Level] = "error"
    alike: ClassVar[tuple[str, ...]] = ("maildrop", "error")
    maildrop: str
    error: str
    failures: int


@dataclass(frozen=True, slots=True)
class MaildropRecovered(Event):
    """A maildrop that failed before answers again."""

    name: ClassVar[str] = "maildrop.recovered"
    maildrop: str
    failures: int


@dataclass(frozen=True, slots=True)
class QuitUnconfirmed(Event):
    """QUIT was not answered with +OK: the deletions may not have happened."""

    name: ClassVar[str] = "maildrop.quit_unconfirmed"
    level: ClassVar[Level] = "warning"
    alike: ClassVar[tuple[str, ...]] = ("maildrop",)
    maildrop: str
    poll_id: str
    pending: int


@dataclass(frozen=True, slots=True)
class MaildropExpiryShort(Event):
    """The server deletes mail sooner than `keep` wants it kept (EXPIRE, RFC 2449 s.6.7); told once."""

    name: ClassVar[str] = "maildrop.expiry_short"
    level: ClassVar[Level] = "warning"
    maildrop: str
    poll_id: str
    expire_days: int
    """0: the server wants no mail left at all, and may delete what was fetched."""
    keep_seconds: float
    """What `keep` wants; -1 for ever."""


@dataclass(frozen=True, slots=True)
class MessageEvent(Event):
    """The fields that every event about one message has."""

    maildrop: str
    poll_id: str
    uidl: str
    size_octets: int
    sender: str
    recipient: str
    subject: str
    message_id: str = field(default="", kw_only=True)
    """Our own name for the message, the same in all its events and behind `id` in the Received field that we add."""


@dataclass(frozen=True, slots=True)
class MessageRelayed(MessageEvent):
    """A destination accepted the message and the row that says so is synced."""

    name: ClassVar[str] = "message.relayed"
    destination: str
    attempt: int
    receipt: str
    age_seconds: float
    """From the fetch to the acceptance."""
    known_seconds: float = 0.0
    """From the first attempt at the message to the acceptance."""


@dataclass(frozen=True, slots=True)
class MessageDeferred(MessageEvent):
    """A destination did not take the message now; it stays on the server."""

    name: ClassVar[str] = "message.deferred"
    level: ClassVar[Level] = "warning"
    alike: ClassVar[tuple[str, ...]] = ("maildrop", "destination", "reason")
    destination: str
    attempt: int
    reason: str
    next_attempt_at: float


@dataclass(frozen=True, slots=True)
class MessageInDoubt(MessageEvent):
    """The link broke between the final dot and its reply: the next attempt may double it."""

    name: ClassVar[str] = "message.in_doubt"
    level: ClassVar[Level] = "warning"
    destination: str
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class MessageRejected(MessageEvent):
    """A destination refused the message for good; it is kept on the server."""

    name: ClassVar[str] = "message.rejected"
    level: ClassVar[Level] = "error"
    destination: str
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class MessageQuarantined(MessageEvent):
    """A message that was refused for good lies in the quarantine, synced to disk."""

    name: ClassVar[str] = "message.quarantined"
    level: ClassVar[Level] = "error"
    entry: str
    """Its name for `mailferry quarantine show`."""
    reason: str


@dataclass(frozen=True, slots=True)
class QuarantineFailed(Event):
    """A refused message could not be put into the quarantine; it stays on the server."""

    name: ClassVar[str] = "quarantine.failed"
    level: ClassVar[Level] = "error"
    alike: ClassVar[tuple[str, ...]] = ("maildrop", "error")
    maildrop: str
    poll_id: str
    uidl: str
    error: str


@dataclass(frozen=True, slots=True)
class MessageFetchFailed(Event):
    """The server listed a message but did not hand it over."""

    name: ClassVar[str] = "message.fetch_failed"
    level: ClassVar[Level] = "warning"
    alike: ClassVar[tuple[str, ...]] = ("maildrop", "reason")
    maildrop: str
    poll_id: str
    uidl: str
    attempt: int
    reason: str
    next_attempt_at: float


@dataclass(frozen=True, slots=True)
class MessageSkipped(Event):
    """A message is left on the server on purpose."""

    name: ClassVar[str] = "message.skipped"
    level: ClassVar[Level] = "warning"
    alike: ClassVar[tuple[str, ...]] = ("maildrop", "uidl", "reason")
    maildrop: str
    poll_id: str
    uidl: str
    size_octets: int
    reason: str


@dataclass(frozen=True, slots=True)
class MessageRecognised(Event):
    """A message that its unique-id did not tell turned out to be one that we had."""

    name: ClassVar[str] = "message.recognised"
    maildrop: str
    poll_id: str
    uidl: str
    known_as: str = ""
    """The unique-id that it had before, if it had one."""


@dataclass(frozen=True, slots=True)
class UidlsChanged(Event):
    """The server has given new unique-ids: old messages were recognised, none of them is relayed again."""

    name: ClassVar[str] = "maildrop.uidls_changed"
    level: ClassVar[Level] = "warning"
    maildrop: str
    poll_id: str
    recognised: int
    unrecognised: int
    """Messages that the ledger knew and that are no longer listed, under whatever unique-id."""


@dataclass(frozen=True, slots=True)
class RoutePaused(Event):
    """A next hop does not take mail at all; nothing is fetched for it until `not_before`."""

    name: ClassVar[str] = "route.paused"
    level: ClassVar[Level] = "warning"
    destination: str
    reason: str
    failures: int
    not_before: float


@dataclass(frozen=True, slots=True)
class RouteProbeFailed(Event):
    """A paused next hop was tried with one message and still takes none; the pause goes on until `not_before`."""

    name: ClassVar[str] = "route.probe_failed"
    alike: ClassVar[tuple[str, ...]] = ("destination", "reason")
    destination: str
    reason: str
    failures: int
    not_before: float


@dataclass(frozen=True, slots=True)
class RouteAuthRejected(Event):
    """A next hop refused user name or password: a person must act."""

    name: ClassVar[str] = "route.auth_rejected"
    level: ClassVar[Level] = "error"
    alike: ClassVar[tuple[str, ...]] = ("destination", "error")
    destination: str
    error: str
    failures: int


@dataclass(frozen=True, slots=True)
class RouteResumed(Event):
    """A paused next hop takes mail again."""

    name: ClassVar[str] = "route.resumed"
    destination: str
    failures: int


@dataclass(frozen=True, slots=True)
class SessionFailed(Event):
    """A session with a next hop could not be had; what that means for its route is told by `route.*`."""

    name: ClassVar[str] = "session.failed"
    level: ClassVar[Level] = "debug"
    destination: str
    result: str
    """See `SessionFailure`."""
    error: str


@dataclass(frozen=True, slots=True)
class CertificateSeen(Event):
    """A peer showed its certificates; told for each session under TLS."""

    name: ClassVar[str] = "certificate.seen"
    level: ClassVar[Level] = "debug"
    peer: str
    """`maildrop`, `destination`, `etrn`, or `receiver` for our own."""
    peer_name: str
    expires_at: float
    """When the first certificate of the chain ends, as the peer sent it."""


@dataclass(frozen=True, slots=True)
class TokenRead(Event):
    """An OAuth 2.0 access token was read for a login; only its end is told, where it tells one (a JWT's `exp`)."""

    name: ClassVar[str] = "token.read"
    level: ClassVar[Level] = "debug"
    peer: str
    """`maildrop`, `destination` or `etrn`."""
    peer_name: str
    expires_at: float
    """0 when the token does not say."""


@dataclass(frozen=True, slots=True)
class EtrnAnswered(Event):
    """A server answered an ETRN request, whatever it said."""

    name: ClassVar[str] = "etrn.answered"
    etrn: str
    node: str
    result: str
    """See `EtrnResult`."""
    reply: str
    pending: int = 0
    """Messages that the server said it would send; 0 when it told no number."""


@dataclass(frozen=True, slots=True)
class EtrnMailTaken(Event):
    """A connection that had turned round (ATRN) has ended; how many messages came over it."""

    name: ClassVar[str] = "etrn.mail_taken"
    etrn: str
    nodes: tuple[str, ...]
    accepted: int
    """Messages that every destination has."""
    deferred: int
    """Messages that the provider was asked to keep, and to send again."""
    rejected: int
    """Messages that were refused for good."""
    refusals: int
    """Commands and recipients that were refused, as for domains that nobody asked for."""
    seconds: float
    error: str = ""
    """Why it ended before the provider said that it had no more; empty when it did say so."""


@dataclass(frozen=True, slots=True)
class EtrnUnanswered(Event):
    """A node was due and got no answer; why is told once, by `etrn.failed` and its like."""

    name: ClassVar[str] = "etrn.unanswered"
    level: ClassVar[Level] = "debug"
    etrn: str
    node: str
    result: str


@dataclass(frozen=True, slots=True)
class EtrnDelayed(Event):
    """A server does not take requests for a node now; told once, until it takes one or says something else."""

    name: ClassVar[str] = "etrn.delayed"
    level: ClassVar[Level] = "warning"
    etrn: str
    node: str
    result: str
    reply: str
    failures: int
    not_before: float


@dataclass(frozen=True, slots=True)
class EtrnRefused(Event):
    """A server does not serve a node: a person must act. Told once, as `etrn.delayed`."""

    name: ClassVar[str] = "etrn.refused"
    level: ClassVar[Level] = "error"
    etrn: str
    node: str
    result: str
    reply: str
    advice: str
    failures: int
    not_before: float


@dataclass(frozen=True, slots=True)
class EtrnRecovered(Event):
    """A server takes requests for a node again."""

    name: ClassVar[str] = "etrn.recovered"
    etrn: str
    node: str
    failures: int


@dataclass(frozen=True, slots=True)
class EtrnPostponed(Event):
    """Nobody listens where the mail would come in, so nothing is asked; told once, until somebody does."""

    name: ClassVar[str] = "etrn.postponed"
    level: ClassVar[Level] = "warning"
    etrn: str
    reason: str
    not_before: float


@dataclass(frozen=True, slots=True)
class EtrnFailed(Event):
    """A session with a server failed before all nodes were asked; told once for each way of failing."""

    name: ClassVar[str] = "etrn.failed"
    level: ClassVar[Level] = "warning"
    etrn: str
    result: str
    error: str
    failures: int
    not_before: float


@dataclass(frozen=True, slots=True)
class EtrnUnusable(Event):
    """A server cannot be asked at all until a person acts: login refused, ETRN not offered, settings."""

    name: ClassVar[str] = "etrn.unusable"
    level: ClassVar[Level] = "error"
    etrn: str
    result: str
    error: str
    failures: int
    not_before: float


@dataclass(frozen=True, slots=True)
class EtrnResumed(Event):
    """A server, or our own listener, that was away is there again: nodes are asked."""

    name: ClassVar[str] = "etrn.resumed"
    etrn: str
    failures: int


@dataclass(frozen=True, slots=True)
class EtrnAcceptedButSilent(Event):
    """A request was accepted and no mail came since; many servers accept with an empty queue, too."""

    name: ClassVar[str] = "etrn.accepted_but_silent"
    etrn: str
    node: str
    accepted_at: float
    silent_seconds: float


@dataclass(frozen=True, slots=True)
class EtrnPendingButSilent(Event):
    """A server said that messages were waiting and would be sent (252, 253), and none came."""

    name: ClassVar[str] = "etrn.pending_but_silent"
    level: ClassVar[Level] = "warning"
    etrn: str
    node: str
    accepted_at: float
    silent_seconds: float
    pending: int = 0
    """How many, when the server told a number."""


@dataclass(frozen=True, slots=True)
class EtrnMailCame(Event):
    """Mail came for a node that had been silent."""

    name: ClassVar[str] = "etrn.mail_came"
    etrn: str
    node: str


@dataclass(frozen=True, slots=True)
class ReceiverStarted(Event):
    """The embedded SMTP server listens."""

    name: ClassVar[str] = "receiver.started"
    address: str
    port: int
    domains: int


@dataclass(frozen=True, slots=True)
class ReceiverStopped(Event):
    """The embedded SMTP server has stopped; `clean` when every session could be finished."""

    name: ClassVar[str] = "receiver.stopped"
    clean: bool


@dataclass(frozen=True, slots=True)
class ReceiverMessageReceived(Event):
    """A message came in by SMTP and was answered with `reply`."""

    name: ClassVar[str] = "receiver.message_received"
    session_id: str
    client: str
    size_octets: int
    recipients: int
    result: str
    """`accepted`, `known` (accepted before), `deferred` or `rejected`."""
    reply: str
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class ReceiverRefused(Event):
    """A client was refused a session, an address or a command; at most 60 lines a minute for each client."""

    name: ClassVar[str] = "receiver.refused"
    origin: str
    """`receiver`, or the name in `[etrn]` of the server whose connection turned round."""
    session_id: str
    client: str
    what: str
    """`session`, `sender`, `recipient`, `content`, `syntax` or `silent`."""
    reply: str


@dataclass(frozen=True, slots=True)
class LedgerRecovered(Event):
    """The receipt journal or the log of changes held rows that a crash had kept from the ledger."""

    name: ClassVar[str] = "ledger.recovered"
    level: ClassVar[Level] = "warning"
    records: int


@dataclass(frozen=True, slots=True)
class LedgerRestored(Event):
    """The ledger was damaged or missing and was put together again from the copy beside it."""

    name: ClassVar[str] = "ledger.restored"
    level: ClassVar[Level] = "error"
    reason: str
    copied_at: float
    records: int
    """Rows that had changed since the copy and came from the log of changes."""


@dataclass(frozen=True, slots=True)
class LedgerCopied(Event):
    """A copy of the ledger was made, checked and synced."""

    name: ClassVar[str] = "ledger.copied"
    level: ClassVar[Level] = "debug"
    duration_seconds: float
    size_octets: int


@dataclass(frozen=True, slots=True)
class LedgerCopyFailed(Event):
    """No copy of the ledger could be made; the ledger is whole, and it is tried again later."""

    name: ClassVar[str] = "ledger.copy_failed"
    level: ClassVar[Level] = "warning"
    alike: ClassVar[tuple[str, ...]] = ("error",)
    error: str


@dataclass(frozen=True, slots=True)
class ClockJumped(Event):
    """The system's clock was set: nothing is deleted because of its age for a while."""

    name: ClassVar[str] = "clock.jumped"
    level: ClassVar[Level] = "warning"
    jump_seconds: float
    """Negative when it was set back."""


@dataclass(frozen=True, slots=True)
class NoticeSent(Event):
    """The summary for the operator was accepted by its next hop."""

    name: ClassVar[str] = "notice.sent"
    recipient: str
    items: int
    receipt: str


@dataclass(frozen=True, slots=True)
class NoticeFailed(Event):
    """The summary for the operator could not be handed over; it is tried again."""

    name: ClassVar[str] = "notice.failed"
    level: ClassVar[Level] = "warning"
    alike: ClassVar[tuple[str, ...]] = ("error",)
    recipient: str
    error: str


@dataclass(frozen=True, slots=True)
class LedgerFailed(Event):
    """The ledger could not be written: nothing more is relayed until it can."""

    name: ClassVar[str] = "ledger.failed"
    level: ClassVar[Level] = "error"
    alike: ClassVar[tuple[str, ...]] = ("error",)
    error: str


@dataclass(frozen=True, slots=True)
class LedgerCommitted(Event):
    """One transaction of the ledger was synced."""

    name: ClassVar[str] = "ledger.committed"
    level: ClassVar[Level] = "debug"
    records: int
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class EventRepeated(Event):
    """A trouble that had been told in full came again, `times` since `since_at`; the numbers in its words may differ."""

    name: ClassVar[str] = "event.repeated"
    level: ClassVar[Level] = "warning"
    of: str
    """The event's name."""
    times: int
    since_at: float
    maildrop: str
    destination: str
    reason: str
    """As the last of them said it."""


@dataclass(frozen=True, slots=True)
class WireTraced(Event):
    """One line of a dialogue, secrets and message data masked."""

    name: ClassVar[str] = "wire.traced"
    peer: str
    direction: Literal["send", "reply", "note"]
    text: str
    session: str = ""
    """Tells sessions with the peer apart that are open side by side; of a maildrop it is the `poll_id`."""


@dataclass(frozen=True, slots=True)
class TraceStarted(Event):
    """Sessions with this peer are logged line by line from now on: somebody asked for it."""

    name: ClassVar[str] = "trace.started"
    peer: str
    ends_at: float


@dataclass(frozen=True, slots=True)
class TraceEnded(Event):
    """Sessions with this peer are not logged any more."""

    name: ClassVar[str] = "trace.ended"
    peer: str
    reason: str
    """`asked`, `time` (its time was over), `size` (it had written as much as one may) or `stopping` (the daemon)."""
    lines: int
    left_out: int
    """Lines that were too many for their second."""


@dataclass(frozen=True, slots=True)
class PauseBegan(Event):
    """Somebody has paused a maildrop, a destination or an ETRN server: it rests until `ends_at`, or a resume."""

    name: ClassVar[str] = "pause.began"
    level: ClassVar[Level] = "warning"
    target: str
    ends_at: float


@dataclass(frozen=True, slots=True)
class PauseEnded(Event):
    """A pause by hand is over."""

    name: ClassVar[str] = "pause.ended"
    target: str
    reason: str
    """`asked`, or `time`: its time was over."""


@dataclass(frozen=True, slots=True)
class ControlUsed(Event):
    """Somebody has told the daemon to do something, over the control socket or on the status page."""

    name: ClassVar[str] = "control.used"
    operation: str
    """`poll`, `pause`, `resume`, `retry`, `retry-all`, `release`, `ask`, `reload` or `trace`."""
    targets: str
    """What it was about, as it was asked for; empty for the daemon as a whole."""
    asked_by: str
    """Who: the user's number, as the system tells it, or `status page` and where from."""


@dataclass(frozen=True, slots=True)
class PageLoggedIn(Event):
    """Somebody has logged in to the status page."""

    name: ClassVar[str] = "page.logged_in"
    client: str
    """An address, or for a Unix socket the number of the user at the other end, which may be a proxy's."""


@dataclass(frozen=True, slots=True)
class PageLoginRefused(Event):
    """Somebody tried to log in to the status page with a wrong token; at most 30 are heard in a minute."""

    name: ClassVar[str] = "page.login_refused"
    level: ClassVar[Level] = "warning"
    client: str
    reason: str


@dataclass(frozen=True, slots=True)
class ControlUnavailable(Event):
    """There is no control socket: commands cannot talk to this daemon; mail is not affected."""

    name: ClassVar[str] = "control.unavailable"
    level: ClassVar[Level] = "warning"
    path: str
    reason: str
