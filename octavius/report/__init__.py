"""Predictions come in; scores, intervals and tables in the paper's form go out."""
