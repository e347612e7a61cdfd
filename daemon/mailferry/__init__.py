"""mailferry ferries mail from POP3 maildrops to SMTP: scheduled, remembered, watched."""

__version__ = "0.1.0"
