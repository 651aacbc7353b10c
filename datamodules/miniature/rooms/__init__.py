"""The miniature's rooms: synthetic furnished rooms with simulated scans and texts, in layouts of real data sets."""
