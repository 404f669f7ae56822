"""VM exits: the loop, the table, and the handlers, a file for each group of reasons."""
