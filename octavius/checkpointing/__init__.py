"""The files of checkpoints: their checksum, the kinds of what they hold, and the configuration in them."""
