"""Seeds and files come in, what detectors, encoders and language models are pre-trained on goes out."""
