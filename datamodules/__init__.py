"""Readers of public data sets, and the Lightning data modules that mix and batch their samples."""
