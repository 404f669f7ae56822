"""What memory costs a guest."""
