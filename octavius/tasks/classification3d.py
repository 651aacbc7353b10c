"""Classification of one object in a point cloud, with synonyms for the classes of ScanNet and ShapeNet."""

from collections.abc import Sequence
from typing import ClassVar

from octavius.metrics import Metric, class_metrics
from octavius.tasks.classification import Classification

SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("airplane", "aeroplane", "plane"),
    ("armchair", "arm chair"),
    ("bathtub", "bath tub", "tub"),
    ("bookshelf", "book shelf", "bookcase", "book case"),
    ("cabinet", "cupboard"),
    ("car", "automobile"),
    ("cellular telephone", "cell phone", "cellphone", "mobile phone"),
    ("clothes dryer", "tumble dryer"),
    ("curtain", "curtains", "drapes"),
    ("dresser", "chest of drawers"),
    ("faucet", "tap"),
    ("keyboard", "computer keyboard"),
    ("loudspeaker", "speaker"),
    ("microwave", "microwave oven"),
    ("monitor", "display", "computer monitor", "computer screen"),
    ("motorcycle", "motorbike"),
    ("nightstand", "night stand", "bedside table"),
    ("office chair", "desk chair", "swivel chair"),
    ("picture", "painting"),
    ("plant", "potted plant", "houseplant"),
    ("refrigerator", "refridgerator", "fridge"),
    ("remote control", "remote"),
    ("sofa", "couch"),
    ("stove", "cooker"),
    ("telephone", "phone"),
    ("trash can", "trash bin", "garbage can", "garbage bin", "rubbish bin", "dustbin", "bin", "ashcan"),
    ("tv", "television", "television set"),
    ("tv stand", "television stand"),
    ("wardrobe", "armoire"),
    ("washing machine", "washer"),
    ("watercraft", "vessel", "boat", "ship"),
    ("whiteboard", "white board"),
)
"""Groups of synonyms for classes of ScanNet and ShapeNet."""


class Classification3D(Classification):
    """Answers with the bare class name.

    The standard protocol accepts synonyms of a class. A synonym that is itself a class stands only for that
    one, so a list with both `sofa` and `couch` tells them apart. The published protocol uses the text as it
    is.
    """

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

    def _spellings(self, names: Sequence[str]) -> dict[str, str]:
        found, others = super()._spellings(names), dict[str, str]()
        for words in SYNONYMS:
            known = [word for word in words if word in found]
            if len(known) == 1:  # if two of the group are classes, a third word is ambiguous
                others |= dict.fromkeys(words, found[known[0]])
        return others | found

    def _metrics(self, protocol: str) -> list[Metric]:
        """Top-1 accuracy of the parsed class; under the published protocol, whether the text contains the name."""
        return class_metrics(protocol)
