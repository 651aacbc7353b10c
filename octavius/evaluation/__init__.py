"""Scoring of generated answers: parsing, metrics, blind controls and records."""
