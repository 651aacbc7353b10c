"""Hugging Face causal language models: loading them, running them on embeddings, and checking that both are sound."""
