"""Benchmarks: ours beside peers and the physical limit, in one run, as ratios."""
