"""What benchmarks share: guests that measure, accounts, statistics, files, tables, plots."""
