"""The command `octavius demo`: one local page to ask a checkpoint, see what it points at, and change its routing."""
