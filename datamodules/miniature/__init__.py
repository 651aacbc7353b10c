"""The miniature: a small synthetic world, drawn and described, in the file layouts of the real data sets."""
