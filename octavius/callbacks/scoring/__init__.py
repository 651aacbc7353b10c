"""Answers of a model come in; their scores, controls and records go out."""
