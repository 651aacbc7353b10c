"""The language model: loading, forward passes, packed attention, and checks of architectures."""
