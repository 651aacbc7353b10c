"""Data modules that train the miniature's own encoders and language model."""
