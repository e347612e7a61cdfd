"""Pure decisions: values in, values out; no socket, clock, file, logger or event loop."""
