"""A debugger of guests and of the VMM under them."""
