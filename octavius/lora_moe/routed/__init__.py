"""LoRA-MoE as a library: transformers models that run their own gate, with PEFT-like methods and files."""
