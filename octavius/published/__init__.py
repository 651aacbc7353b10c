"""What only serves the published code: its checkpoints, its prompts and its tag tokens."""
