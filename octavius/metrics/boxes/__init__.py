"""Found and true boxes come in, scores of detection go out."""
