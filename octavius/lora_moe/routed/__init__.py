"""LoRA-MoE as a library: models that route themselves, with files of their own."""
