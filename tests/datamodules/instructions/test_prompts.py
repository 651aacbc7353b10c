"""Prompts tell the annotation, not the picture."""

from pathlib import Path

from datamodules.instructions.annotation import Annotation, Thing
from datamodules.instructions.prompts import ASKED, Job, messages

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


LOOKING = Job(PICTURE, ("detection", "description", "classification", "VQA"))


WALKING = Job(ROOM, ("classification3d", "description3d", "VQA3D"), ROOM.things[:1])


def test_a_request_tells_the_annotation_and_no_picture() -> None:
    system, user = messages(LOOKING)
    assert (system["role"], user["role"]) == ("system", "user")
    assert "dog [0.10, 0.20, 0.50, 0.90]\ndog [0.12, 0.20, 0.30, 0.40]\ncup [" in user["content"]
    assert "Crowds, of which there are more than are listed: person" in user["content"]
    assert "- A bear of a dog." in user["content"]
    assert "Certainly not there, among others: hot dog" in user["content"]
    assert "7.jpg" not in system["content"] + user["content"]
    assert [f"kind {kind}" in user["content"] for kind in ASKED] == [True] * 4 + [False] * 3
    system, user = messages(WALKING)
    assert "3: office chair [1.00, 2.00, 0.50, 0.50, 0.50, 1.00]" in user["content"]
    assert "each of the objects 3 1 pair of kind description3d" in user["content"]
    assert '"id": "3"' in system["content"]
