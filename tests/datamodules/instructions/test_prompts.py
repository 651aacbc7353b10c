"""Prompts tell the annotation, not the picture."""

from datamodules.instructions.prompts import ASKED, Job, messages
from tests.datamodules.instructions.annotated import PICTURE, ROOM

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
