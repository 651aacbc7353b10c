"""The tasks by name; each defines its questions, answers, parsing and metrics."""

from octavius.tasks.base import Task
from octavius.tasks.captioning import Captioning, Conversation
from octavius.tasks.captioning3d import Captioning3D
from octavius.tasks.classification import Classification, FacialAttributes
from octavius.tasks.classification3d import Classification3D
from octavius.tasks.dense_captioning3d import DenseCaptioning3D
from octavius.tasks.detection import Detection
from octavius.tasks.found_captioning3d import FoundCaptioning3D
from octavius.tasks.vqa import VQA
from octavius.tasks.vqa3d import VQA3D

TASKS: dict[str, Task] = {
    "detection": Detection(),
    "captioning": Captioning(),
    "vqa": VQA(),
    "classification": Classification(),
    "facial_attributes": FacialAttributes(),
    "conversation": Conversation(),
    "captioning3d": Captioning3D(),
    "vqa3d": VQA3D(),
    "classification3d": Classification3D(),
    "dense_captioning3d": DenseCaptioning3D(),
    "found_captioning3d": FoundCaptioning3D(),
}

__all__ = [
    "TASKS",
    "VQA",
    "VQA3D",
    "Captioning",
    "Captioning3D",
    "Classification",
    "Classification3D",
    "Conversation",
    "DenseCaptioning3D",
    "Detection",
    "FacialAttributes",
    "FoundCaptioning3D",
    "Task",
]
