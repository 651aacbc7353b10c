"""Checkpoint files: checksum, validation of their content, and the configuration stored in them."""
