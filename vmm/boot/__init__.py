"""From a kernel file to a guest's first instruction: loaders, firmware's tables, registers."""
