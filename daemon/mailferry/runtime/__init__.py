"""What keeps the daemon alive: schedule, caps, signals, shutdown, health."""
