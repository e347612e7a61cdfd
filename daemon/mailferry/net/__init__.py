"""The asyncio transport, TLS and the trace; the clients that drive the protocol cores."""
