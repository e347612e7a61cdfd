"""The commands, one module each: they read arguments, call the application, print. No logic."""
