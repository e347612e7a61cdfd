"""Servers, certificates and mail for the tests: what a peer is, and how it can misbehave."""
