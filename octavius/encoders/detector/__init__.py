"""The points of a scene come in, boxes with a class and a score each go out: FCAF3D and TR3D."""
