"""Texts and references come in, scores of captions and free answers go out."""
