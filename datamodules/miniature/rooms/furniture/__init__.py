"""Procedural furniture: primitives, colours, and for each class a few styles with functions that build them."""
