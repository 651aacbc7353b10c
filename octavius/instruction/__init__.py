"""The contract between data and model: a `Sample` becomes a prompt with media slots, prompts become a `Batch`."""
