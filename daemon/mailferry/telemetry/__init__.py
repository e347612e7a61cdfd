"""Logs and metrics made from events; secrets and control characters stay out."""
