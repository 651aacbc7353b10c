"""Shape grammar of furniture: primitives, colours, and for each class a few styles built from parts."""
