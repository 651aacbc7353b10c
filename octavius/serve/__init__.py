"""`octavius serve`: answers requests over HTTP, in OpenAI's chat format, in batches with a routing for each row."""
