"""Settings: models, loading, secrets, and errors that say where and what to do."""
