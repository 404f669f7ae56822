"""gdb's remote serial protocol over a `Debugger`: see README.md."""
