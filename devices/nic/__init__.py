"""The self-virtualized NIC: a network processor that gives each guest its own virtual interface (VIF)."""
