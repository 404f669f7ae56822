"""What the VMM's own work costs: paths of instructions, and who pays."""
