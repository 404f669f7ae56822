"""A self-virtualized NIC under the VMM: who has which virtual interface, and how a guest hears of its frames."""
