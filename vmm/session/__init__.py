"""A run as its user sees it: options, guest, console, observers, reports, snapshots."""
