"""What is kept of a run in its log folder, and the command that lists and compares runs."""
