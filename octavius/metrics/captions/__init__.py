"""Caption metrics: BLEU, ROUGE-L, CIDEr-D, and captions of detected objects."""
