"""Files for llama.cpp: the language model and each expert in GGUF, and the gate that weights them by the question."""
