"""Benchmark runs and reports: predictions, scores with intervals, and tables in the form of the paper's."""
