"""A picture and a room with annotations."""

from pathlib import Path

from datamodules.instructions.annotation import Annotation, Thing

DOG = Thing("0", "dog", "dog", (0.1, 0.2, 0.5, 0.9))
PUPPY = Thing("1", "dog", "dog", (0.123456, 0.2, 0.3, 0.4))
CUP = Thing("2", "cup", "cup", (0.7, 0.1, 0.8, 0.2))
KINDS = ("bear", "cup", "dog", "hot dog", "person")
PICTURE = Annotation(
    "7", (DOG, PUPPY, CUP), KINDS, Path("7.jpg"), frozenset({"person"}), captions=("A bear of a dog.",)
)
ROOM = Annotation(
    "scene0000_00",
    (
        Thing("3", "office chair", "chair", (1.0, 2.0, 0.5, 0.5, 0.5, 1.0)),
        Thing("5", "table", "table", (0.0, 0.0, 0.4, 1.0, 2.0, 0.8)),
    ),
    ("bed", "chair", "table"),
)
