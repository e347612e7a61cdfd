"""The status page: how everything fares, on one screen, and a few things to do about it."""
