"""The command `octavius plan`: estimates memory, steps, tokens and time of a training without running it."""
