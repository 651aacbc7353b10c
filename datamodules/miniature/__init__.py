"""The miniature: a small seeded world, drawn, told, and written in the layouts of the real data sets."""
