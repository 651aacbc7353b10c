"""Frozen encoders of images and point clouds, with the trained projectors behind them."""
