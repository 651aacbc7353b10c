"""Frozen encoders: pictures and point clouds come in, feature tokens go out."""
