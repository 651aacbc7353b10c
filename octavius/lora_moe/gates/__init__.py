"""Gates: what says how much of each expert a sample or a token gets."""
