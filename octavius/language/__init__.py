"""Causal language models of Hugging Face: loading, forward passes on embeddings, and checks of both."""
