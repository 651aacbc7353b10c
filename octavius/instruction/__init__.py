"""The contract: a `Sample` of facts becomes a prompt with media slots, and prompts become a `Batch`."""
