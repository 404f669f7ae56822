"""Two traces, or two snapshots, and where they part."""
