"""sidecore: the `guest_images` package; see its README."""
