"""sidecore: the `vmm` package; see its README."""
