"""sidecore: the `benchmarks` package; see its README."""
