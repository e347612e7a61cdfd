"""The HTTP side: /metrics, /healthz, /readyz, the status page, and the control socket."""
