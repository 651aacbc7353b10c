"""A configuration comes in, what its training needs of a machine goes out: memory, steps, tokens and time."""
