"""The grammar of things: primitives, colours, and for each class a few styles built from parts."""
