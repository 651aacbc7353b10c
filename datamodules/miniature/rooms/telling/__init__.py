"""Rooms come in; what is told of them, asked about them and answered goes out."""
