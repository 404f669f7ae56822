"""The `sidecore` command: what the hypervisor's command line has, and the benchmarks.

Benchmarks use the hypervisor and not the other way round, so the command that has both is put together here.
"""

from vmm.cli import cli, main

__all__ = ["cli", "main"]

if __name__ == "__main__":
    main()
