"""Sans-IO cores for POP3 and SMTP: bytes in, events and bytes out."""
