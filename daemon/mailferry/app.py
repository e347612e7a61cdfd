"""The composition root: settings become objects, objects become a running daemon."""
