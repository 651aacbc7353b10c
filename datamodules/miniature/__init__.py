"""The miniature: a small synthetic data set of images and rooms, written in the file layouts of real data sets."""
