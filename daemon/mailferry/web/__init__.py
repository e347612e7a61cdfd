"""The HTTP side: /metrics, /healthz, /readyz."""
