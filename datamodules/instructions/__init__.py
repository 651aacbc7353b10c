"""Annotations of pictures and scans come in; instruction data goes out, by templates or from a language model."""
