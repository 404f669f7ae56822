"""What memory costs in `fast` timing, fitted to `detailed`."""
