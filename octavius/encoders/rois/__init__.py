"""Clouds come in, the features of the objects in them go out, read as one scene: Object-As-Scene."""
