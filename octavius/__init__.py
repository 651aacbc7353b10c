"""Octavius: tune one multimodal language model on many tasks with routed LoRA experts."""

__version__ = "0.1.0"
