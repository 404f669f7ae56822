"""What operations cost a guest that a VMM may have to step in for."""
