"""Messages that were refused for good: taken off their server and kept here until a person decides."""
