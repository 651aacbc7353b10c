"""Saving, resuming, loading, exporting and importing models."""
