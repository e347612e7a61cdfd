"""A local POP3 server with sample mail and an SMTP sink, for trying things without risk."""
