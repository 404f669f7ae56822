"""sidecore: the `emulator` package; see its README."""
