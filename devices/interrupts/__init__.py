"""Interrupt controllers: the local APIC, the I/O APIC, the pair of 8259s, and the bus between them."""
