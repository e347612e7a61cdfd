"""How fast mail goes, measured: ours, the peers that are installed, and a floor; see docs/performance.md."""
