"""Data for pre-training detectors, encoders and language models."""
