"""sidecore: the `devices` package; see its README."""
