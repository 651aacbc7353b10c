"""Readers of point-cloud data sets, one file per data set."""
