"""A local POP3 server with sample mail and an SMTP sink, for trying things without risk."""

from mailferry.sandbox.pop3_server import SandboxFeatures, SandboxMaildrop, SandboxPop3Server
from mailferry.sandbox.samples import sample_messages
from mailferry.sandbox.sandbox import Sandbox, SandboxPorts, config_text, run_sandbox
from mailferry.sandbox.smtp_sink import SinkMessage, SmtpSink

__all__ = [
    "Sandbox",
    "SandboxFeatures",
    "SandboxMaildrop",
    "SandboxPop3Server",
    "SandboxPorts",
    "SinkMessage",
    "SmtpSink",
    "config_text",
    "run_sandbox",
    "sample_messages",
]
