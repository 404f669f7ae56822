"""The PCI bus and the functions on it."""
