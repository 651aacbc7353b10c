"""The checkpoint file: its parts, its seal, its configuration, and how it is read."""
