"""Where messages go: small adapters of one port."""
