"""The command `octavius compare`: variants of one set-up with equal data, steps and seeds, in one table."""
