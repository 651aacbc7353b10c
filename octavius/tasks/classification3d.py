"""Naming one object in a point cloud from a closed list: the object that the sample refers to in, its class out."""

from typing import ClassVar

from octavius.tasks.classification import Classification


class Classification3D(Classification):
    """Answers with the bare class name."""

    name = "classification3d"
    questions: ClassVar[tuple[str, ...]] = (
        "What is this object?",
        "Which class is this object?",
        "Name this object.",
        "Which object do the points show?",
        "What kind of thing is this?",
        "Say which class the object is.",
        "What do you call this object?",
        "Give the class of this object.",
    )
    unseen_questions: ClassVar[tuple[str, ...]] = (
        "Name the class of this object.",
        "What kind of object do the points show?",
    )
