"""One configuration and its variants come in, runs with equal data, steps and seeds and one table go out."""
